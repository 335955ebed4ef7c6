package engine

// offlinePython keeps the Hugging Face libraries from waiting for a network that the unit does not
// have, and the libraries of several GPUs on the loopback interface.
func offlinePython() map[string]string {
	return map[string]string{
		"HF_HUB_OFFLINE":       "1",
		"TRANSFORMERS_OFFLINE": "1",
		"DO_NOT_TRACK":         "1",
		"NCCL_SOCKET_IFNAME":   "lo",
		"GLOO_SOCKET_IFNAME":   "lo",
	}
}
