package engine

// Foreign: the variables are those of llama-server --help. A repository without a quantisation is
// loaded as Q4_K_M, by the help of -hf.
func (llamaCpp) Foreign() Foreign {
	return Foreign{Programs: []string{"llama-server"}, Images: []string{"llama.cpp"}, Underscores: true,
		SharedCtx: true, Quant: "Q4_K_M",
		Options: []ForeignOption{
			{MeansModel, []string{"-m", "--model"}, []string{"LLAMA_ARG_MODEL"}},
			{MeansURL, []string{"-mu", "--model-url"}, []string{"LLAMA_ARG_MODEL_URL"}},
			{MeansRepo, []string{"-hf", "-hfr", "--hf-repo"}, []string{"LLAMA_ARG_HF_REPO"}},
			{MeansRepoFile, []string{"-hff", "--hf-file"}, []string{"LLAMA_ARG_HF_FILE"}},
			{MeansToken, []string{"-hft", "--hf-token"}, nil},
			{MeansHost, []string{"--host"}, []string{"LLAMA_ARG_HOST"}},
			{MeansPort, []string{"--port"}, []string{"LLAMA_ARG_PORT"}},
			{MeansCtx, []string{"-c", "--ctx-size"}, []string{"LLAMA_ARG_CTX_SIZE"}},
			{MeansSlots, []string{"-np", "--parallel"}, []string{"LLAMA_ARG_N_PARALLEL"}},
			{MeansLayers, []string{"-ngl", "--gpu-layers", "--n-gpu-layers"}, []string{"LLAMA_ARG_N_GPU_LAYERS"}},
			{MeansSplit, []string{"-ts", "--tensor-split"}, []string{"LLAMA_ARG_TENSOR_SPLIT"}},
			{MeansDevices, []string{"-dev", "--device"}, []string{"LLAMA_ARG_DEVICE"}},
			{MeansKey, []string{"--api-key"}, []string{"LLAMA_API_KEY"}},
			{MeansKeyFile, []string{"--api-key-file"}, []string{"LLAMA_ARG_API_KEY_FILE"}},
			{MeansDefault, []string{"--metrics", "--slots"}, []string{"LLAMA_ARG_ENDPOINT_METRICS", "LLAMA_ARG_ENDPOINT_SLOTS"}},
		}}
}

// Foreign: the module is what "vllm serve" was before it had a command.
func (vllm) Foreign() Foreign {
	return Foreign{Programs: []string{"vllm"}, Words: []string{"serve"}, Positional: true,
		Underscores: true, Shortened: true,
		Modules: map[string]string{"vllm.entrypoints.openai.api_server": "vllm", "vllm.entrypoints.cli.main": "vllm"},
		Images:  []string{"vllm"},
		Options: []ForeignOption{
			{MeansModel, []string{"--model"}, nil},
			{MeansRevision, []string{"--revision"}, nil},
			{MeansToken, []string{"--hf-token"}, nil},
			{MeansHost, []string{"--host"}, nil},
			{MeansPort, []string{"--port"}, nil},
			{MeansCtx, []string{"--max-model-len"}, nil},
			{MeansSlots, []string{"--max-num-seqs"}, nil},
			{MeansCount, []string{"--tensor-parallel-size", "-tp"}, nil},
			{MeansKey, []string{"--api-key"}, []string{"VLLM_API_KEY"}},
			{MeansName, []string{"--served-model-name"}, nil},
		}}
}

// Foreign: the interpreter is the binary of a module, which Command starts again.
func (sglang) Foreign() Foreign {
	return Foreign{Programs: []string{"sglang"}, Words: []string{"serve"}, Images: []string{"sglang"}, Shortened: true,
		Modules: map[string]string{"sglang.launch_server": ""},
		Options: []ForeignOption{
			{MeansModel, []string{"--model-path", "--model"}, nil},
			{MeansRevision, []string{"--revision"}, nil},
			{MeansHost, []string{"--host"}, nil},
			{MeansPort, []string{"--port"}, nil},
			{MeansCtx, []string{"--context-length"}, nil},
			{MeansSlots, []string{"--max-running-requests"}, nil},
			{MeansCount, []string{"--tp", "--tp-size", "--tensor-parallel-size"}, nil},
			{MeansKey, []string{"--api-key"}, nil},
			{MeansName, []string{"--served-model-name"}, nil},
			{MeansDefault, []string{"--enable-metrics"}, nil},
		}}
}

func (trtllm) Foreign() Foreign {
	return Foreign{Programs: []string{"trtllm-serve"}, Words: []string{"serve"}, Positional: true, Underscores: true,
		Images: []string{"tensorrt-llm", "trtllm"},
		Options: []ForeignOption{
			{MeansHost, []string{"--host"}, nil},
			{MeansPort, []string{"--port"}, nil},
			{MeansCtx, []string{"--max-seq-len"}, nil},
			{MeansSlots, []string{"--max-batch-size"}, nil},
			{MeansCount, []string{"--tp-size", "--tensor-parallel-size"}, nil},
			{MeansRevision, []string{"--revision"}, nil},
		}}
}

// Foreign: the variables are those of text-generation-launcher --help.
func (tgi) Foreign() Foreign {
	return Foreign{Programs: []string{"text-generation-launcher"}, Images: []string{"text-generation-inference"},
		Options: []ForeignOption{
			{MeansModel, []string{"--model-id"}, []string{"MODEL_ID"}},
			{MeansRevision, []string{"--revision"}, []string{"REVISION"}},
			{MeansHost, []string{"--hostname"}, []string{"HOSTNAME"}},
			{MeansPort, []string{"-p", "--port"}, []string{"PORT"}},
			{MeansCtx, []string{"--max-total-tokens"}, []string{"MAX_TOTAL_TOKENS"}},
			{MeansSlots, []string{"--max-concurrent-requests"}, []string{"MAX_CONCURRENT_REQUESTS"}},
			{MeansCount, []string{"--num-shard"}, []string{"NUM_SHARD"}},
			{MeansKey, []string{"--api-key"}, []string{"API_KEY"}},
		}}
}

func (triton) Foreign() Foreign {
	return Foreign{Programs: []string{"tritonserver"}, Images: []string{"tritonserver"}, Shortened: true,
		Options: []ForeignOption{
			{MeansModel, []string{"--model-repository", "--model-store"}, nil},
			{MeansHost, []string{"--http-address"}, nil},
			{MeansPort, []string{"--http-port"}, nil},
		}}
}

// Foreign: what the options of any program mean is a guess; these two mostly mean it.
func (command) Foreign() Foreign {
	return Foreign{Options: []ForeignOption{
		{MeansHost, []string{"--host"}, nil},
		{MeansPort, []string{"--port"}, nil},
		{MeansKey, []string{"--api-key"}, nil},
	}}
}
