package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

func newExport(a *app, o *modelOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "export MODEL FILE|-",
		Short: "Write a model of the cache into a file, for a host without a network",
		Long: `Write the files of a model that is whole into a tar file, or to standard output. Their digests are compared while they are
written. Nothing is compressed: weights do not get smaller.`,
		Example: `  poolctl models export hf:org/name:Q4_K_M /media/usb/name.tar
  poolctl models export hf:org/name:Q4_K_M - | ssh other poolctl models import -`,
		Args: cobra.ExactArgs(2),
		RunE: do(func(ctx context.Context, args []string) error { return a.exportModel(ctx, *o, args[0], args[1]) }),
	}
}

func newModelImport(a *app, o *modelOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE|-",
		Short: "Read a model into the cache that another host exported",
		Long: `Read a file of poolctl models export, or standard input, into the cache. Sizes and digests are compared, and what is no
file of the model is refused. Who made the file decides what the model is: model_digest of a pool file holds for it, too.`,
		Example: `  poolctl models import /media/usb/name.tar`,
		Args:    cobra.ExactArgs(1),
		RunE:    do(func(ctx context.Context, args []string) error { return a.importModel(ctx, *o, args[0]) }),
	}
}

// cacheDir returns the cache of the host's configuration.
func (a *app) cacheDir(o modelOptions) (string, error) {
	settings, problems, _ := hostconfig.LoadSettings(o.configFile)
	if len(problems) > 0 {
		return "", fmt.Errorf("%s has problems; poolctl check lists them", o.configFile)
	}
	return filepath.Join(a.root, settings.Host.Provisioning.CacheDir), nil
}

func (a *app) exportModel(ctx context.Context, o modelOptions, model, file string) error {
	ref, err := modelref.Parse(model)
	var wrong *modelref.Error
	switch {
	case errors.As(err, &wrong):
		return &exitError{code: exitUsage, text: wrong.Error(), hint: wrong.Hint}
	case !ref.Remote():
		return usage("%s is a file of this host: copy it", model)
	case file == "-" && a.clear:
		return usage("standard output is a terminal; name a file")
	}
	dir, err := a.cacheDir(o)
	if err != nil {
		return err
	}
	var moved library.Moved
	write := func(to io.Writer) (err error) {
		moved, err = library.Export(ctx, dir, ref, to)
		return err
	}
	if file == "-" {
		err = write(a.out)
	} else {
		err = writeNew(file, write)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.err, "Exported %s, %sB in %s.\n", clean(moved.Model), registry.Decimal(moved.Bytes),
		counted(moved.Files, "file"))
	return err
}

// writeNew writes a file that does not exist yet, which has its name once it is whole.
func writeNew(name string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already, or cannot be looked at (%w)", name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone when all went well
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func (a *app) importModel(ctx context.Context, o modelOptions, file string) error {
	dir, err := a.cacheDir(o)
	if err != nil {
		return err
	}
	from := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	moved, err := library.Import(ctx, dir, from)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("could not write the cache (only root can): %w", err)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(a.out, "Imported %s, %sB; it is at %s\n", clean(moved.Model), registry.Decimal(moved.Bytes),
		clean(moved.Path))
	return err
}
