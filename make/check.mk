# What goes wrong with threads. SUBMISSION=mine.py checks another file than lab/parallel.py; K= workers, N= schedules.

CHECKED = $(if $(SUBMISSION),"$(SUBMISSION)",lab.parallel)
CHECK_FLAGS = $(if $(K),--workers $(K)) $(if $(SEED),--seed $(SEED)) $(if $(N),--schedules $(N))

check: $(READY) ## run in checked mode: misuse, lock order and stalls are reported (SUBMISSION=file K=workers)
	@$(PYTHON) -m lab.check check $(CHECKED) $(if $(K),--workers $(K))
.PHONY: check

explore: $(READY) ## run under many schedules, one thread at a time (SUBMISSION= K= N=schedules SEED= REPLAY=schedule)
	@$(PYTHON) -m lab.check explore $(CHECKED) $(CHECK_FLAGS) \
	    $(if $(REPLAY),--replay "$(REPLAY)") $(if $(PICTURE),--picture "$(PICTURE)")
.PHONY: explore

races: $(READY) ## look for unordered accesses to arrays and variables (SUBMISSION= K= N=schedules SEED=)
	@$(PYTHON) -m lab.check races $(CHECKED) $(CHECK_FLAGS)
.PHONY: races

check-selftest: $(READY) ## the checks must raise nothing in right programs: 10,000 schedules of each (N=schedules)
	@$(PYTHON) -m lab.check selftest $(if $(N),--schedules $(N))
.PHONY: check-selftest
