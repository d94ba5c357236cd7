grade: $(READY) ## the grade of a submission (FILE=lab/parallel.py SEED= CASES= POINTS= OUT= STAGES=tokens,checks,timing INSTRUCTOR=1)
	@$(PYTHON) -m grader $(if $(FILE),"$(FILE)") $(if $(SEED),--seed $(SEED)) $(if $(CASES),--cases "$(CASES)") \
	    $(if $(POINTS),--points "$(POINTS)") $(if $(OUT),--out "$(OUT)") $(if $(STAGES),--stages $(STAGES)) \
	    $(if $(MODEL),--model "$(MODEL)") $(if $(INSTRUCTOR),--instructor)
.PHONY: grade

grade-selftest: $(READY) ## the timed checks of the grader on the 124M: the reference 20 times (TIMES=), wrong ones, with a busy core
	@$(PYTHON) -m grader.selftest $(if $(TIMES),--times $(TIMES)) $(if $(ONLY),--only $(ONLY))
.PHONY: grade-selftest
