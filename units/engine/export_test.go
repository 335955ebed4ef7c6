package engine

// SandboxLines are all lines that an adapter may relax.
func SandboxLines() []SandboxLine {
	return []SandboxLine{WriteExecute, ResourceCalls, HostAddress, WholeProc}
}
