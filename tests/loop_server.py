"""Run loops under the watch in forked children of one process that has loaded torch.

Standard input has a JSON list for each loop: the arguments of ``python -m covlab.watch``, the file that gets what the
loop prints, and whether the child ends as a fresh process does. Otherwise it ends at once where the interpreter would
begin to take itself apart, which takes longer than most loops. Apart from that, a child differs from a fresh process
only in what it imports again. Its exit status is written to standard output.
"""

import gc
import json
import os
import runpy
import sys

import rich.console  # noqa: F401 - as a report does
import torch
import torch._dynamo  # as the first optimizer does

import covlab.watch.html_report
import covlab.watch.sarif
import covlab.watch.script
import covlab.watch.session  # noqa: F401

torch.set_num_threads(1)  # a fork is safe only before torch has started a thread
gc.freeze()  # else every child collects and copies what all of them share

if __name__ == "__main__":
    for request in sys.stdin:
        arguments, output, ends_whole = json.loads(request)
        child = os.fork()
        if not child:
            break
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    else:
        sys.exit()
    printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (printed, 1), (printed, 2)):
        os.dup2(stream, number)
    sys.argv = ["", *arguments]
    try:
        runpy.run_module("covlab.watch", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if ends_whole or not isinstance(end.code, int):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code)
