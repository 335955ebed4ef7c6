package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/convert"
)

// poolFileMode lets every user read a pool file: it holds no secret.
const poolFileMode = 0o644

func newImport(a *app) *cobra.Command {
	var directory string
	cmd := &cobra.Command{
		Use:   "import FILE [DROP-IN…]",
		Short: "Translate a llama-swap configuration, a systemd unit or a quadlet into pool files",
		Long: `Read a configuration of llama-swap (YAML), a unit file of systemd (.service) or a quadlet of podman (.container),
and print a pool file for each engine that it starts. Drop-ins of a unit are taken from FILE.d/*.conf, or as given.

What has no key in a pool file is a comment in it, with its place and the reason; keys and tokens are not copied. Every
pool file that is printed passes poolctl check, but read the comments before you use it: paths below /REPLACE-ME have to
be written, and devices may be a guess. Nothing is started, the daemon is not asked, and the engines that run elsewhere
are not touched.

Exit status: 0 each engine got a pool file; 1 one did not, or a file could not be read or written.`,
		Example: `  poolctl import /etc/llama-swap/config.yaml
  poolctl import /etc/systemd/system/gemma.service --directory /etc/pool-managerd/pools.d
  poolctl import /etc/containers/systemd/qwen.container -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("want a file, have no argument")
			}
			return nil
		},
		RunE: do(func(_ context.Context, args []string) error { return a.runImport(args, directory) }),
	}
	cmd.Flags().StringVar(&directory, "directory", "",
		"write the pool files into this `directory`, where none of them may exist, instead of printing them")
	_ = cmd.MarkFlagDirname("directory")
	return cmd
}

func (a *app) runImport(files []string, directory string) error {
	sources, err := readSources(files)
	if err != nil {
		return err
	}
	r, err := convert.Convert(sources...)
	if err != nil {
		return err
	}
	switch {
	case a.o.output == formatJSON:
		err = a.printImportJSON(r)
	case directory == "":
		err = a.printImport(r)
	default:
		a.printNotes(a.err, r.Notes)
	}
	if err == nil && directory != "" {
		err = a.writePools(r, directory)
	}
	if err == nil && r.Failed > 0 {
		return fmt.Errorf("%d of %d engines got no pool file; the notes have the reason", r.Failed,
			r.Failed+len(r.Pools))
	}
	return err
}

// readSources reads the files, and the drop-ins of a single unit file.
func readSources(files []string) (sources []convert.Source, err error) {
	if len(files) == 1 {
		dropIns, err := filepath.Glob(filepath.Join(escaped(files[0])+".d", "*.conf"))
		if err != nil {
			return nil, fmt.Errorf("could not list the drop-ins of %s: %w", files[0], err)
		}
		slices.Sort(dropIns)
		files = append(slices.Clone(files), dropIns...)
	}
	for _, name := range files {
		data, problem := strict.ReadFile(name)
		if problem != nil {
			return nil, errors.New(problem.Error())
		}
		sources = append(sources, convert.Source{Name: name, Data: data})
	}
	return sources, nil
}

// escaped returns a path as a pattern that matches it alone.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (a *app) printNotes(w io.Writer, notes []convert.Note) {
	for _, n := range notes {
		fmt.Fprintln(w, clean(n.String()))
	}
}

// printImport prints what an administrator can divide into files by hand.
func (a *app) printImport(r convert.Result) error {
	var b strings.Builder
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "# %s\n", n)
	}
	for i, p := range r.Pools {
		if i > 0 || b.Len() > 0 {
			b.WriteString("\n")
		}
		if len(r.Pools) > 1 {
			fmt.Fprintf(&b, "# ==> %s.toml <==\n", p.ID)
		}
		b.WriteString(p.Text)
	}
	_, err := io.WriteString(cleaner{a.out}, b.String())
	return err
}

// importedPool is a pool file in JSON.
type importedPool struct {
	ID    string   `json:"id"`
	File  string   `json:"file"`
	Text  string   `json:"text"`
	Notes []string `json:"notes"`
}

func (a *app) printImportJSON(r convert.Result) error {
	answer := struct {
		Format string         `json:"format"`
		Pools  []importedPool `json:"pools"`
		Notes  []string       `json:"notes"`
	}{r.Format, make([]importedPool, 0, len(r.Pools)), texts(r.Notes)}
	for _, p := range r.Pools {
		answer.Pools = append(answer.Pools, importedPool{p.ID, p.ID + ".toml", p.Text, texts(p.Notes)})
	}
	body, err := wire.Encode(answer)
	if err != nil {
		return err
	}
	_, err = a.out.Write(cleanJSON(body))
	return err
}

func texts(notes []convert.Note) []string {
	list := make([]string, 0, len(notes))
	for _, n := range notes {
		list = append(list, n.String())
	}
	return list
}

// writePools writes all files, or none if one of them exists.
func (a *app) writePools(r convert.Result, directory string) error {
	path := func(p convert.Pool) string { return filepath.Join(directory, p.ID+".toml") }
	if info, err := os.Stat(directory); err != nil || !info.IsDir() {
		return &exitError{code: exitFailed, text: fmt.Sprintf("%s is no directory", directory), hint: "Make it, " +
			"or name another one.",
			err: err}
	}
	for _, p := range r.Pools {
		if _, err := os.Lstat(path(p)); !errors.Is(err, fs.ErrNotExist) {
			return &exitError{code: exitFailed, text: path(p) + " exists; nothing was written",
				hint: "Move it away, or name another directory.", err: err}
		}
	}
	for _, p := range r.Pools {
		if err := create(path(p), p.Text); err != nil {
			return fmt.Errorf("could not write %s: %w", path(p), err)
		}
		if a.o.output != formatJSON {
			fmt.Fprintf(a.out, "%s: %d comments to read\n", clean(path(p)), strings.Count("\n"+p.Text, "\n#"))
		}
	}
	return nil
}

// create writes a file that must not exist, whole or not at all.
func create(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, poolFileMode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
