"""Our side of a comparison: a program that does something each time it is asked, and times it."""

import os
import subprocess
import sys


class Ours:
    """Starts `command` with this many rayon threads. It says `ready`, and answers each line with seconds."""

    def __init__(self, command, threads):
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"RAYON_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{command[0]} failed")

    def seconds(self, *what):
        print(*what, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
