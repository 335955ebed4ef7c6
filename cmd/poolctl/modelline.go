package main

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// modelLine is what a model's files say of it, as a person reads it; empty where they say nothing.
func modelLine(m wire.Model) string {
	var parts []string
	for _, word := range []*string{m.Architecture, m.Quantization} {
		if word != nil {
			parts = append(parts, *word)
		}
	}
	if m.Parameters != nil {
		parts = append(parts, thousands(*m.Parameters)+" parameters")
	}
	if m.CtxTrained != nil {
		parts = append(parts, fmt.Sprintf("trained for %d tokens", *m.CtxTrained))
	}
	if m.Workload != nil && *m.Workload != "completion" {
		parts = append(parts, "made for "+*m.Workload)
	}
	return strings.Join(parts, ", ")
}

// thousands prints a large number in thousands, millions or billions (10^9), as models are named.
func thousands(n uint64) string {
	for _, unit := range []struct {
		of   float64
		name string
	}{{1e9, "B"}, {1e6, "M"}, {1e3, "k"}} {
		if float64(n) >= unit.of {
			return fmt.Sprintf("%.1f %s", float64(n)/unit.of, unit.name)
		}
	}
	return fmt.Sprint(n)
}
