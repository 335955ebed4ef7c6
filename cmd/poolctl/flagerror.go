package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError adds the nearest option to the error about one that is unknown.
func flagError(cmd *cobra.Command, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	e := &exitError{code: exitUsage, text: err.Error(), err: err}
	if near := nearest(name, names); near != "" {
		e.hint = "Did you mean --" + near + "?"
	}
	return e
}
