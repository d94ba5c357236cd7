# Where the time goes. Results are in profiles/.

MEASURE_FLAGS = $(if $(MODEL),--model "$(MODEL)") $(if $(ENGINE),--engine $(ENGINE)) $(if $(N),-n $(N))
MEASURE_WORKERS = $(if $(WORKERS),--workers $(WORKERS))

profile: $(READY) ## where the time goes (ENGINE=serial|parallel|cached MODEL= N= RATE= PROFILER=py-spy|builtin|perf)
	@$(PYTHON) -m lab.measure.profile $(MEASURE_FLAGS) $(MEASURE_WORKERS) $(if $(RATE),--rate $(RATE)) \
	    $(if $(PROFILER),--profiler $(PROFILER))
.PHONY: profile

timeline: $(READY) ## what each worker did when, and what it waited for (ENGINE=parallel|cached WORKERS= MODEL= N=)
	@$(PYTHON) -m lab.measure.timeline $(MEASURE_FLAGS) $(MEASURE_WORKERS)
.PHONY: timeline

scale: $(READY) ## work, span, and the time on 1 to 64 workers, predicted (ENGINE=parallel|file.py MODEL= N=)
	@$(PYTHON) -m lab.measure.scale $(MEASURE_FLAGS)
.PHONY: scale

plots: $(READY) ## pictures: speedup, seconds by operation, roofline (ENGINE=parallel|cached WORKERS= MODEL= N=)
	@$(PYTHON) -m lab.measure.plots $(MEASURE_FLAGS) $(MEASURE_WORKERS)
.PHONY: plots

report: $(READY) ## all of these on one HTML page, for handing in (ENGINE= WORKERS= MODEL= N= TITLE="..." FRESH=1)
	@$(PYTHON) -m lab.measure.report $(MEASURE_FLAGS) $(MEASURE_WORKERS) $(if $(TITLE),--title "$(TITLE)") \
	    $(if $(FRESH),--fresh)
.PHONY: report

reference: $(READY) ## make the pictures in profiles/reference anew, on a quiet machine
	@$(PYTHON) -m lab.measure.reference
.PHONY: reference
