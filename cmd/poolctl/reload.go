package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newReload(a *app) *cobra.Command {
	var o operateOptions
	var acceptEmpty bool
	var named selection
	cmd := &cobra.Command{
		Use:   "reload [POOL...|--all]",
		Short: "Change a pool to another model, all or nothing; or read the configuration files again",
		Long: `Reload a pool: the new model is staged and verified first. Where both fit, the new engine starts beside the old one,
which is stopped when the new one is ready and no work is left on the old one; otherwise the old one is stopped first. On
any failure, or if work is left at the deadline, the reload is rolled back to the former model, and last_error has the reason.

The model replaces that of the pool's file, over restarts and reboots, until --forget. Without --model, a change of the
pool's file that was rolled back is tried again. A file that was changed since it was read is not read by this:
systemctl reload pool-managerd does that, and reloads the pools that differ.

Without a pool, the configuration files are read again, as by systemctl reload pool-managerd, and their problems are printed. A
config.toml or a directory of pool files that was there before and is gone changes nothing and is a problem, since a file
system may not be mounted. --accept-empty says that it is meant.`,
		Example: `  poolctl reload llama3 --model file:/srv/models/llama3-q8.gguf --wait
  poolctl reload llama3 --forget
  poolctl reload --accept-empty`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !named.all {
				return nil
			}
			return named.args(cmd, args)
		},
		ValidArgsFunction: a.completePools,
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "what to serve, `file:/PATH`")
	_ = cmd.RegisterFlagCompletionFunc("model", a.completeModels)
	f.StringVar(&o.digest, "digest", "", "of the model, `sha256:…`; verified before the reload begins")
	f.BoolVar(&o.forget, "forget", false, "return to the model of the pool's file")
	f.BoolVar(&acceptEmpty, "accept-empty", false,
		"without a pool: a configuration file or directory that is gone is meant to be gone")
	named.allFlag(cmd, "reload every pool, instead of the configuration files")
	o.deadlineFlag(cmd, "how long work on the old engine may continue")
	o.waitFlag(cmd, "the reload is done")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && !named.all {
			return a.reloadFiles(cmd, acceptEmpty)
		}
		if acceptEmpty {
			return usage("--accept-empty is about the configuration files; it takes no pool")
		}
		if o.forget && (o.model != "" || o.digest != "") {
			return usage("--forget cannot be combined with --model or --digest")
		}
		ms, err := o.deadlineMS(cmd)
		if err != nil {
			return err
		}
		body := wire.ReloadRequest{NewModelRef: o.model, ModelDigest: o.digest, DeadlineMS: ms, Forget: o.forget}
		return a.operating(cmd, named, change{what: "reload", o: o, done: "serves", over: wire.Reloaded,
			send: func(ctx context.Context, c *client.Client, id string) (client.Answer[wire.Pool], error) {
				return c.PostReload(ctx, id, body, client.PostReloadParams{})
			}})
	}
	return cmd
}

// reloadFiles has the daemon read its configuration again, and prints what is wrong with it.
func (a *app) reloadFiles(cmd *cobra.Command, acceptEmpty bool) error {
	for _, name := range []string{"model", "digest", "forget", "deadline", "wait"} {
		if cmd.Flags().Changed(name) {
			return usage("--%s is about a pool; name it", name)
		}
	}
	return do(func(ctx context.Context, _ []string) error {
		c, err := newClient(a.o)
		if err != nil {
			return err
		}
		files, raw, err := got(c.PostReloadFiles(ctx, wire.FilesRequest{AcceptEmpty: acceptEmpty}))
		if err != nil {
			return err
		}
		text := "The configuration is in force."
		if len(files.Problems) > 0 {
			text = problemText(files.Problems)
		}
		if err := a.say(raw, text); err != nil || len(files.Problems) == 0 {
			return err
		}
		return errSilent
	})(cmd, nil)
}

// problemText lists problems of the configuration, each with its hint below it.
func problemText(problems []wire.Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, clean(p.Error))
		if p.Hint != nil {
			lines = append(lines, "    "+clean(*p.Hint))
		}
	}
	return strings.Join(lines, "\n")
}
