"""The labeling page of label.py: a small local server, what it knows, and the page itself.

desk.py      what is to be labeled and what has been said of it: the journals in memory
pictures.py  frames of the videos as JPEG, exact to the frame
machine.py   the machine's part, a process of its own
server.py    routes; the page's files are index.html, page.css and *.js beside it
"""
