"""Annotators: what is asked of them, what comes back, and the tools they answer with.

    picks -> form.request_form -> request -> annotator -> answers -> answers.merge_answers
                                                                  -> next annotations.pkl

A request and its answers are one form (form.py): plain dicts and lists, JSON on disk. Who
fills it in does not matter: simulated.answer takes ground truth, a person edits the JSON
beside the pictures of request_frames.py, or a tool's own file is read.

**An annotation tool is one module here, with two functions, and a line in readers.py:**

    write_tasks(request, folder, frames, sizes, proposals) -> paths
        Writes what the tool imports below `folder`. frames: the folder of the pictures;
        sizes: {video: (height, width)}; proposals: see proposals.py. A request may have
        answers in it already: they become the tool's annotations. The first path is the
        file to open.
    read_answers(path, request) -> answers, or [(who, answers)] of several people
        Reads what the tool exported into a deep copy of `request`, which is untouched:
        "class" of every video and "actors" of every frame filled in. What the tool's file
        does not say stays null: an image without a label is [] (no action) only where the
        tool says that somebody has looked at it; a skipped frame has "skipped". What cannot
        be read is in "notes", (video, "problem" or "warning", text).

Both know the tool's format and nothing of budgets, files of a run or networks. Pixels are
those of the decoded picture, from 0; boxes are corner and size, fractions as the tool has
them. A track is one actor throughout a video, and keeps the number it has in
"labelled_before"; null where the tool does not say. Frames of an entry with a "segment"
have the numbers of the whole video: in the form, in the names of pictures, in a tool's
file. A file that cannot be read is a UserError that names the file and the fix. Rounding,
clipping, tracks, classes and whether answers fit the request are mend.fit's work, and
several people's answers people.combine's, once for all tools. Files come from strangers:
limits.py reads them.

**A format for labels that were there already** has read_labels(path, found, kind), see
found.py, and where it can give labels out write_labels(form, folder, sizes).
"""
