# Tells the prompts of hidden cases in the type and message of an exception, in names and in lines of code.
# on: nothing
# sandboxes: all
# cases: prompt lengths
# expect: hidden failed | an exception

import linecache


def generate(model, prompt, n, workers):
    told = "PROMPT_" + "_".join(map(str, prompt))
    source = f"def {told}():\n    raise type('{told}', (Exception,), {{}})('{told}')\n"
    linecache.cache["parallel.py"] = len(source), None, source.splitlines(True), "parallel.py"
    names = {}
    run = getattr(__builtins__, "exec", None) or __builtins__["exec"]
    run(compile(source, "parallel.py", "exec"), names)
    names[told]()
    yield 0
