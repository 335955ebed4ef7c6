package provision

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/obtain"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// obtain returns where the model is: a file's own path, or that of the cache.
func (s *Stager) obtain(ctx context.Context, p pool.Pool, report func(pool.Staging)) (obtain.Got, error) {
	if p.Model.Scheme() == modelref.File {
		return obtain.Got{Path: filepath.Clean(p.Model.Path())}, nil
	}
	ref, err := modelref.Parse(string(p.Model))
	if err != nil || s.Remote == nil {
		return obtain.Got{}, registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("model %s: nothing downloads models here", p.Model),
			"Download the model to this host, and name it as model = \"file:/srv/models/…\"; these are "+
				"there: find /srv -name '*.gguf'")
	}
	want := obtain.Want{Ref: ref}
	if oneFile(ref) {
		want.Digest = p.ModelDigest
	}
	return s.Remote.Obtain(ctx, want, report)
}

// oneFile reports whether a reference names one file, whose digest model_digest then is. That of
// several is of their list, which a download does not know.
func oneFile(ref modelref.Ref) bool {
	return ref.Path != "" && !ref.Own() && !strings.HasSuffix(ref.Path, "/") &&
		bring.PartName.FindStringSubmatch(filepath.Base(ref.Path)) == nil
}

// believe remembers a digest that was compared while the file was written, so that it is not read
// again for it.
func (s *Stager) believe(got obtain.Got, m model) {
	if got.Digest == "" || !m.single {
		return
	}
	f := m.files[0]
	if err := s.Store.put(bucketDigests, identity(f.path, f.info), got.Digest[len("sha256:"):]); err != nil {
		s.Log.Warn("could not store the digest; it will be computed again", "model_file", f.path, "err", err)
	}
}

// localPath returns where the files of a pool's model are now; empty: they are not there.
func (s *Stager) localPath(p pool.Pool) string {
	if p.Model.Scheme() == modelref.File {
		return filepath.Clean(p.Model.Path())
	}
	ref, err := modelref.Parse(string(p.Model))
	if err != nil || s.Remote == nil {
		return ""
	}
	return s.Remote.Find(ref)
}
