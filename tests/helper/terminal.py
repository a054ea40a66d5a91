# SPDX-License-Identifier: MIT OR Apache-2.0
"""terminal.py DIRECTORY COMMAND...: runs a command in a terminal of 10 rows. While a file DIRECTORY/wait is there, waits until the last
row shows a status line, notes what is on the screen, and removes the file, for which the command waits. Prints the notes, and
everything that went over the screen, as JSON. The row is a status line if it says how many files were used."""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

import pyte

ROWS, COLUMNS = 10, 80


class Screen(pyte.HistoryScreen):
    def set_margins(self, top=None, bottom=None):
        # Before 0.8.1, pyte takes a missing number for 0.
        super().set_margins(top or None, bottom or None)


directory, command = sys.argv[1], sys.argv[2:]
screen = Screen(COLUMNS, ROWS, history=10000, ratio=0.5)
stream = pyte.ByteStream(screen)

pid, terminal = pty.fork()
if pid == 0:
    # The parent sets the size first.
    while os.get_terminal_size(0) != (COLUMNS, ROWS):
        time.sleep(0.01)
    os.environ["TERM"] = "xterm"
    os.execvp(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

waiting = os.path.join(directory, "wait")
notes, seen, is_new, deadline = [], False, True, time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        if select.select([terminal], [], [], 0.1)[0]:
            stream.feed(os.read(terminal, 65536))
    except OSError:
        break
    shows = "files used in" in screen.display[-1]
    seen |= shows
    # The line of an earlier wait may still be there.
    is_new |= not shows
    if shows and is_new and os.path.exists(waiting):
        is_new = False
        cursor = [screen.cursor.y, screen.cursor.x]
        notes.append({"screen": screen.display[:], "cursor": cursor})
        os.unlink(waiting)

status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
past = ["".join(line[x].data for x in range(COLUMNS)) for line in screen.history.top]
lines = [line.rstrip() for line in past + screen.display]
margins = list(screen.margins) if screen.margins else None
print(json.dumps({"notes": notes, "seen": seen, "lines": lines, "status": status, "margins": margins}))
