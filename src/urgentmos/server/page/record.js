// The microphone as it is, without what browsers do to make calls pleasant: that would be scored, too.

export async function startRecording() {
  const heard = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: heard });
  const context = new AudioContext();
  await context.audioWorklet.addModule("page/recorder.js");
  const source = context.createMediaStreamSource(stream);
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 1 });
  const blocks = [];
  node.port.onmessage = ({ data }) => blocks.push(data);
  source.connect(node).connect(context.destination); // silent: the node writes nothing to its output
  return {
    seconds: () => (blocks.length * 128) / context.sampleRate,
    async stop() {
      for (const track of stream.getTracks()) track.stop();
      await context.close();
      return wav(blocks, context.sampleRate);
    },
  };
}

// Blocks of samples in +-1 -> a WAV file, 16 bit, one channel.
export function wav(blocks, rate) {
  const n = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * n));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * n, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * n, true);
  let at = 44;
  for (const block of blocks) {
    for (const x of block) {
      view.setInt16(at, Math.max(-32768, Math.min(32767, Math.round(x * 32767))), true);
      at += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
