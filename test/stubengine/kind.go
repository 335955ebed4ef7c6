package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
)

// kind is the engine whose answers it gives: by the name that it is executed by.
type kind string

// The kinds. SGLang and TensorRT-LLM need a GPU, so that none of their real versions runs in a test
// machine; what is answered for them was read in their source (SGLang 0.5.23, TensorRT-LLM 1.2).
const (
	likeLlama  kind = ""                     // llama-server, by any other name
	likeSGLang kind = "standin-sglang"       // sglang
	likeTRTLLM kind = "standin-trtllm-serve" // trtllm-serve
)

func kindOf(program string) kind {
	if k := kind(filepath.Base(program)); k == likeSGLang || k == likeTRTLLM {
		return k
	}
	return likeLlama
}

// printsVersion prints the version where the arguments ask for it as the engine's do.
func (k kind) printsVersion(args []string, out io.Writer) bool {
	switch {
	case k == likeSGLang && slices.Equal(args, []string{"version"}):
		fmt.Fprintln(out, "sglang version: 0.0.0+standin")
	case k == likeTRTLLM && slices.Equal(args, []string{"--help"}):
		fmt.Fprintln(out, "[TensorRT-LLM] TensorRT LLM version: 0.0.0+standin\nUsage: trtllm-serve [OPTIONS]")
	default:
		return false
	}
	return true
}

// answers adds what the engine reports of itself. TensorRT-LLM reports neither slots nor requests.
func (k kind) answers(e *engine, mux *http.ServeMux) {
	switch k {
	case likeLlama:
		mux.HandleFunc("GET /props", e.serveProps)
		mux.HandleFunc("GET /slots", e.serveSlots)
		mux.HandleFunc("GET /metrics", e.serveMetrics)
	case likeSGLang:
		mux.HandleFunc("GET /server_info", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, map[string]any{"model_path": e.o.Model, "version": "0.0.0+standin",
				"internal_states": []any{map[string]any{"effective_max_running_requests_per_dp": len(e.slots)}}})
		})
		mux.HandleFunc("GET /v1/loads", func(w http.ResponseWriter, _ *http.Request) {
			busy, _ := e.work()
			answer(w, http.StatusOK, map[string]any{"loads": []any{map[string]any{"dp_rank": 0, "num_running_reqs": busy,
				"num_waiting_reqs": 0}}})
		})
		mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
			_, done := e.work()
			fmt.Fprintf(w, "sglang:generation_tokens_total{model_name=\"x\"} %d.0\n", done)
		})
	}
}
