# run() returns before the workers are done: what follows reads half-written results.
# on: base
# expect: public failed | differs


Workers.run = Workers.begin
