"""Results -> one self-contained HTML page to look at and to listen to: a ranking, scored clips, an evaluation.

`ranking_page`, `clips_page` and `evaluation_page` return the page; `write` puts it on disk, if it is not larger than allowed.
The page makes no request: data, style, script, charts and (by choice) audio are inside it. Nothing is scored here: pages are
made of what the commands have computed, except the spectrogram and the timeline of the clips that one can listen to.

Charts are Vega-Lite, written as plain data (`charts`) and drawn in the browser by the bundle that vl-convert-python carries. It
was chosen over plotly because its bundle is 0.9 MB where plotly.js has 4.8 MB; its charts are SVG with text that can be read;
they are drawn again in other colours when the reader's system turns dark; and its expressions are interpreted, so that the page
can forbid `eval` and all requests by its Content-Security-Policy. altair would add validation only, which the tests do by
compiling each chart. Both packages come with the extra `report` and are imported when a page is made.
"""

from urgentmos.report.clips import clips_page
from urgentmos.report.evaluation import evaluation_page
from urgentmos.report.page import Options, write
from urgentmos.report.ranking import ranking_page

__all__ = ["Options", "clips_page", "evaluation_page", "ranking_page", "write"]
