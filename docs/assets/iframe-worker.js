// The search of the site runs in a worker, and browsers start none for pages opened from disk. There, a hidden frame of the
// page's own origin runs the script instead. Over HTTP nothing changes.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.ready = new Promise(loaded => { frame.onload = loaded }).then(() => {
        this.inner = frame.contentWindow
        this.inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
        this.inner.importScripts = (...urls) => urls.reduce((before, next) => before.then(() => this.run(next)), Promise.resolve())
        return this.run(new URL(url, location.href).href)
      })
      document.body.append(frame)
    }

    run(url) {
      const script = this.inner.document.createElement("script")
      const loaded = new Promise((done, failed) => Object.assign(script, { onload: done, onerror: failed }))
      script.src = url
      this.inner.document.body.append(script)
      return loaded
    }

    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
