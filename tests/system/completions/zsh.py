"""Prints what zsh offers for a command line: DIRECTORY of completions, LINE. zsh completes only on a terminal, so it gets one."""

import os
import pty
import re
import select
import sys
import time

directory, line = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="dumb", PS1="", LINES="200", COLUMNS="300")
    os.execvp("zsh", ["zsh", "-f", "-i"])

output = b""


def read_until(mark, seconds=30):
    global output
    end = time.monotonic() + seconds
    while mark not in output and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:
                return


# Each match becomes a line between marks instead of something on the screen.
os.write(terminal, f"""fpath=({directory} $fpath); PS1=; unsetopt zle_bracketed_paste; stty -echo
autoload -Uz compinit; compinit -u -D
compadd() {{
  local -a all; local -A opts; local array
  [[ ${{@[(r)-O]}} = -O || ${{@[(r)-A]}} = -A || ${{@[(r)-D]}} = -D ]] && {{ builtin compadd "$@"; return }}
  builtin compadd -A all "$@"; (( $#all )) && print -l -- "MATCH:"$^all >>$found
  builtin compadd "$@"
}}
found=$(mktemp); zle -C show complete-word offer
offer() {{ _main_complete; print -r -- DONE >>$found; compstate[insert]= compstate[list]= }}
bindkey '^X^X' show; print -r -- "READY"$found"END"
""".encode())
read_until(b"END\r\n")
found = re.findall(r"READY(/\S+?)END", output.decode(errors="replace"))[-1]
os.write(terminal, line.encode() + b"\x18\x18")
end = time.monotonic() + 30
text = ""
while "DONE" not in text and time.monotonic() < end:
    time.sleep(0.05)
    with open(found, encoding="utf-8") as file:
        text = file.read()
os.kill(pid, 9)
os.unlink(found)
for match in re.findall(r"^MATCH:(.*)$", text, flags=re.M):
    print(match.replace("\\", ""))
