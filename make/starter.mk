STARTER = $(or $(OUT),starter/parallel.py)

starter: $(READY) ## the file students start from: lab/parallel.py without its solution (OUT=starter/parallel.py)
	@mkdir -p "$(dir $(STARTER))"
	@$(PYTHON) -m grader.starter lab/parallel.py -o "$(STARTER)"
	@echo "$(STARTER)"
.PHONY: starter
