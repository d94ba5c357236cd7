# How fast the engines are, beside each other and beside PyTorch (TORCH=python that has it; or install it into .venv).

bench: $(READY) ## the engines' speed, interleaved (N=tokens ROUNDS= WORKERS=1,2,4 ENGINES= MODEL= PEERS=1 TORCH= PEER_CMD=)
	@$(PYTHON) -m lab.measure.bench $(if $(N),-n $(N)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(WORKERS),--workers $(WORKERS)) $(if $(ENGINES),--engines $(ENGINES)) $(if $(MODEL),--model "$(MODEL)") \
	    $(if $(PEERS)$(TORCH),--peers) $(if $(TORCH),--torch-python "$(TORCH)") \
	    $(if $(PEER_CMD),--peer-cmd "$(PEER_CMD)") $(if $(OUT),--out "$(OUT)")
.PHONY: bench
