"""Label the requested frames in a browser.

    python label.py --run mine                   # prints the address, and opens it
    python label.py --run mine --twice 10%       # several people: a tenth is labeled by two

Reads   files/<run>/cycle<k>/request.json and selection.json (claus_select.py), the videos below
        --data, proposals.json where there is one
Writes  files/<run>/cycle<k>/journal/NAME.jsonl: every step of every annotator, as it is made
        files/<run>/cycle<k>/from_page.json: the request, filled in as far as people have come
        files/<run>/segments.csv: parts of long videos that were marked, for --segments
        files/<run>/label.json: address and key, so that an open page finds the server again
Expect  a page that works without a network, on this machine alone (127.0.0.1; from another
        machine: ssh -L PORT:127.0.0.1:PORT). Stop the server or close the page at any time:
        open it again and go on. One server a run; several people open it with ?who=NAME.
"""

import claus.utils.startup  # noqa: F401  first, so that Ctrl-C while libraries load is one line

# isort: split
from claus.flags import label as flags
from claus.steps import label
from claus.utils.runtime import run_script


def main(argv=None):
    return label.run(flags.parse(argv, __doc__))


if __name__ == "__main__":
    run_script(main, again="nothing is lost; run the same command to go on")
