"""A program run in a pod: as a job it says when it is ready and ends it on request."""

import os
import selectors
import signal
import subprocess

from . import kernel


def run(command, guard_seconds=60):
    """Runs to the end: (exit status, stdout, stderr)."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=guard_seconds,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def job(channel, command):
    """Sends the program's first line of output, ends it when told to; its exit status."""
    parent = os.getpid()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: kernel.die_with_parent(parent),  # the job may be killed
    ) as process:
        line = process.stdout.readline().strip()
        if line:
            channel.send(line)
        with selectors.DefaultSelector() as selector:
            selector.register(channel.fileno(), selectors.EVENT_READ)
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if channel.fileno() in ready:
                    process.send_signal(signal.SIGTERM)
                    break
                if not process.stdout.readline():
                    break
        process.communicate()
        return process.returncode
