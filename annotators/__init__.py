"""Annotators: what is asked of them, what comes back, and the tools they answer with.

    picks -> form.request_form -> request -> annotator -> answers -> answers.merge_answers
                                                                  -> next annotations.pkl

A request and its answers are one form (form.py): plain dicts and lists, JSON on disk. Who
fills it in does not matter: simulated.answer takes ground truth, a person edits the JSON
beside the pictures of request_frames.py, or a tool's own file is read.

**An annotation tool is one module here, with two functions:**

    write_tasks(request, folder) -> Path
        Writes what the tool imports below `folder`, the cycle's, whose frames/ has the
        pictures. Labels of earlier cycles ("labelled_before") are in it for reference.
        Returns the file to open.
    read_answers(path, request) -> answers
        Reads what the tool exported into a deep copy of `request`, which is untouched:
        "class" of every video and "actors" of every frame filled in. What the tool's file
        does not say stays null: an image without a label is [] (no action) only where the
        tool says that somebody has looked at it.

Both know the tool's format and nothing of budgets, files of a run or networks. Pixels are
those of the decoded picture, from 0; boxes are whole-pixel corner and size, so a tool's
floating-point edges are rounded half up. A track is one actor throughout a video, and
keeps the number it has in "labelled_before". Frames of an entry with a "segment" have the
numbers of the whole video: in the form, in the names of pictures, in a tool's file. A file
that cannot be read, or lacks what the format requires, is a UserError that names the file
and the fix; whether the answers are complete and fit the request is
answers.check_answers' to say, once for all tools.
"""
