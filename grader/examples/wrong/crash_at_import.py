# The file cannot even be imported.
# on: base
# expect: runs failed | importing the file fails: ZeroDivisionError

BLOCK = 1 // 0
