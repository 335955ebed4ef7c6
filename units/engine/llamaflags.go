package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// llamaSyntax: of an argument that begins with two dashes, each underscore is a dash
// (common/arg.cpp).
var llamaSyntax = flagSyntax{Underscores: true, NoEquals: true}

// llamaManaged are the flags of llama-server that a pool may not give it. Of those that Command
// writes, the variables are left out: the command line overrides them.
var llamaManaged = []managedFlag{
	{Spellings: []string{"-m", "--model"}, Instead: useModel, Key: keyModel},
	{Spellings: []string{"-mu", "--model-url", "-dr", "--docker-repo", "-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"},
		Instead:   useModel,
		Variables: []string{"LLAMA_ARG_MODEL_URL", "LLAMA_ARG_DOCKER_REPO", "LLAMA_ARG_HF_REPO", "LLAMA_ARG_HF_FILE"}},
	{Spellings: []string{"--host"}, Instead: useHost, Key: keyHost},
	{Spellings: []string{"--port"}, Instead: usePort, Key: keyPort},
	{Spellings: []string{"--reuse-port"}, Instead: usePort, Variables: []string{"LLAMA_ARG_REUSE_PORT"},
		Why: "lets two engines listen on one port, so that each gets some of the other's requests"},
	{Spellings: []string{"-c", "--ctx-size"}, Instead: useCtx, Key: keyCtx},
	{Spellings: []string{"-np", "--parallel"}, Instead: useSlots, Key: keySlots},
	{Spellings: []string{"-ts", "--tensor-split"}, Instead: "set the key tensor_split", Key: keySplit,
		Variables: []string{"LLAMA_ARG_TENSOR_SPLIT"}},
	{Spellings: []string{"-dev", "--device"}, Instead: "set the key devices", Variables: []string{"LLAMA_ARG_DEVICE"}},
	{Spellings: []string{"--ssl-key-file", "--ssl-cert-file"}, Instead: noTLS,
		Variables: []string{"LLAMA_ARG_SSL_KEY_FILE", "LLAMA_ARG_SSL_CERT_FILE"}},
	{Spellings: []string{"--models-dir", "--models-preset", "--models-max", "--models-autoload", "--no-models-autoload"},
		Instead: "write a pool file for each model",
		Variables: []string{"LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET", "LLAMA_ARG_MODELS_MAX",
			"LLAMA_ARG_MODELS_AUTOLOAD"},
		Why: "belongs to the router mode, which is not supported: an engine of a pool serves one model"},
}

// llamaFiles are the options by which llama-server is given files and directories to read, of
// --help of 0.7.0, of versions before it, and of its vocoder (-mv).
var llamaFiles = []fileFlag{
	{Spellings: []string{"-mm", "--mmproj"}, Variables: []string{"LLAMA_ARG_MMPROJ"}, Weights: true},
	{Spellings: []string{"-md", "--model-draft", "--spec-draft-model"},
		Variables: []string{"LLAMA_ARG_SPEC_DRAFT_MODEL", "LLAMA_ARG_MODEL_DRAFT"}, Weights: true},
	{Spellings: []string{"-mv", "--model-vocoder"}, Variables: []string{"LLAMA_ARG_MODEL_VOCODER"}, Weights: true},
	{Spellings: []string{"--lora"}, Variables: []string{"LLAMA_ARG_LORA"}, Paths: inCommas, Weights: true},
	{Spellings: []string{"--control-vector"}, Paths: inCommas, Weights: true},
	{Spellings: []string{"--lora-scaled", "--control-vector-scaled"}, Paths: scaled, Weights: true},
	{Spellings: []string{"--chat-template-file"}, Variables: []string{"LLAMA_ARG_CHAT_TEMPLATE_FILE"}},
	{Spellings: []string{"--grammar-file"}},
	{Spellings: []string{"-jf", "--json-schema-file"}},
	{Spellings: []string{"--api-key-file"}, Variables: []string{"LLAMA_ARG_API_KEY_FILE"},
		Instead: "Name it as api_key_file instead: PID 1 hands the key to the engine, and the manager uses it."},
	{Spellings: []string{"-lcs", "--lookup-cache-static"}},
	{Spellings: []string{"--path"}, Variables: []string{"LLAMA_ARG_STATIC_PATH"}},
	{Spellings: []string{"--media-path"}, Variables: []string{"LLAMA_ARG_MEDIA_PATH"}},
	{Spellings: []string{"--ui-config-file", "--webui-config-file"},
		Variables: []string{"LLAMA_ARG_UI_CONFIG_FILE", "LLAMA_ARG_WEBUI_CONFIG_FILE"}},
	{Spellings: []string{"--mcp-servers-config"}, Variables: []string{"LLAMA_ARG_MCP_SERVERS_CONFIG"}},
	{Spellings: []string{"--video-ffmpeg-dir"}, Variables: []string{"LLAMA_ARG_VIDEO_FFMPEG_DIR"}},

	{Spellings: []string{"-mmu", "--mmproj-url"}, Variables: []string{"LLAMA_ARG_MMPROJ_URL"}, Paths: nothing, Remote: wholly},
	{Spellings: []string{"-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"},
		Variables: []string{"LLAMA_ARG_SPEC_DRAFT_HF_REPO", "LLAMA_ARG_HFD_REPO"}, Paths: nothing, Remote: wholly},
	{Spellings: []string{"-hfv", "-hfrv", "--hf-repo-v"}, Variables: []string{"LLAMA_ARG_HF_REPO_V"}, Paths: nothing, Remote: wholly},
	{Spellings: []string{"--embd-gemma-default", "--fim-qwen-1.5b-default", "--fim-qwen-3b-default", "--fim-qwen-7b-default",
		"--fim-qwen-7b-spec", "--fim-qwen-14b-spec", "--fim-qwen-30b-default", "--gpt-oss-20b-default", "--gpt-oss-120b-default",
		"--vision-gemma-4b-default", "--vision-gemma-12b-default", "--tts-oute-default"}, Alone: true},
}

// Files: a script in the place of llama-server may take "--flag=value".
func (llamaCpp) Files(p pool.Pool) []File { return llamaSyntax.files(p, llamaFiles) }

// llamaWritten are flags of what llama-server writes to.
var llamaWritten = []fileFlag{
	{Spellings: []string{"--log-file"}, Variables: []string{"LLAMA_ARG_LOG_FILE", "LLAMA_LOG_FILE"}},
	{Spellings: []string{"--slot-save-path"}, Variables: []string{"LLAMA_ARG_SLOT_SAVE_PATH"}},
	{Spellings: []string{"-lcd", "--lookup-cache-dynamic"}},
}

// Written: without its log file llama-server serves, and says nothing of it.
func (llamaCpp) Written(p pool.Pool) []File { return llamaSyntax.files(p, llamaWritten) }

// filesApart refuses "--flag=value" of a flag that names a file: llama-server ends with "invalid
// argument" for it. A script of another name in its place may read it.
func filesApart(p pool.Pool) []pool.Refusal {
	if p.Provisioning.Binary != "" && OfBinary(p.Provisioning.Binary) != LlamaCpp {
		return nil
	}
	var refused []pool.Refusal
	for i, arg := range p.Args {
		flag, value, found := strings.Cut(arg, "=")
		of := func(f fileFlag) bool { return slices.Contains(f.Spellings, llamaSyntax.name(arg)) }
		if found && (slices.ContainsFunc(llamaFiles, of) || slices.ContainsFunc(llamaWritten, of)) {
			refused = append(refused, pool.Refuse(fmt.Sprintf("args[%d]", i),
				fmt.Sprintf("Write the flag and its value as two arguments: %q, %q.", flag, value),
				"args[%d] is %s, and llama-server reads no value behind an equals sign", i, arg))
		}
	}
	return refused
}

// llamaTools let a request run programs on the host, or reach others from it.
var llamaTools = []managedFlag{
	{Spellings: []string{"--tools"}, Variables: []string{"LLAMA_ARG_TOOLS"}},
	{Spellings: []string{"-ag", "--agent"}, Variables: []string{"LLAMA_ARG_AGENT"}},
	{Spellings: []string{"--mcp-servers-config"}, Variables: []string{"LLAMA_ARG_MCP_SERVERS_CONFIG"}},
	{Spellings: []string{"--mcp-servers-json"}, Variables: []string{"LLAMA_ARG_MCP_SERVERS_JSON"}},
	{Spellings: []string{"--ui-mcp-proxy", "--webui-mcp-proxy"}, Variables: []string{"LLAMA_ARG_UI_MCP_PROXY"}},
	{Spellings: []string{"--tools-runtime"}, Variables: []string{"LLAMA_ARG_TOOLS_RUNTIME"}},
}
