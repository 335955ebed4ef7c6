package obtain

import (
	"cmp"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// codes are the causes of the API for the reasons of the protocol; the rest is PROVISION_FAILED.
var codes = map[wire.Reason]registry.Code{
	wire.NotFound:       registry.CodeModelNotFound,
	wire.DigestMismatch: registry.CodeDigestMismatch,
	wire.HostDenied:     registry.CodePolicyDenied,
}

// hints are what to do where the program has no hint of its own.
var hints = map[wire.Reason]string{
	wire.NotFound:       "Correct the model in the pool's file.",
	wire.Unauthorized:   "Write the credentials of one who may read it into a file, and name that under [provisioning] in " + egress.PolicyFile + ".",
	wire.Gated:          "Accept the model's terms on its page as the user of the token in hf_token_file.",
	wire.RateLimited:    "It is tried again by itself. With a token (hf_token_file) the limits are higher.",
	wire.NoSpace:        "Free space on the disk of cache_dir: poolctl models prune --to SIZE lists what no pool names.",
	wire.DigestMismatch: "Correct model_digest, or find out who changed the file.",
	wire.TooLarge:       "Raise size_budget under [provisioning] in " + egress.PolicyFile + ".",
	wire.AddressStale:   "Check this host's network. It is tried again by itself.",
	wire.Network:        "Check this host's network. It is tried again by itself.",
	wire.BadAnswer:      "Check the endpoint under [provisioning], and whether a proxy changes what is downloaded.",
	wire.CacheFailed:    "Check the disk and the owner of cache_dir: the user pool-fetch must be able to write there.",
}

// Reasons are those of failed downloads that are counted by themselves, at most as many as a label
// may have; the rest are counted together.
func Reasons() []string {
	out := []string{"killed", "resolve"}
	for _, r := range []wire.Reason{wire.NotFound, wire.Unauthorized, wire.Gated, wire.RateLimited, wire.NoSpace,
		wire.DigestMismatch, wire.HostDenied, wire.TooLarge, wire.Network, wire.BadAnswer, wire.BadRequest,
		wire.CacheFailed} {
		out = append(out, string(r))
	}
	return out
}

// failed converts the error that a program reported.
func (f *flight) failed(e wire.Event) ended {
	out := ended{reason: string(e.Reason), temporary: e.Reason.Temporary(),
		after: time.Duration(e.RetryAfterMS) * time.Millisecond}
	if e.Reason == wire.HostDenied && e.Host != "" {
		if f.settings.Allows(e.Host) {
			f.o.redirected(e.Host)
			out.redirect = e.Host
		} else {
			out.failure = f.settings.Denied(f.want.Ref, e.Host)
			return out
		}
	}
	code, known := codes[e.Reason]
	if !known || code == registry.CodeModelNotFound && f.want.Ref.Scheme == modelref.Image {
		code = registry.CodeProvisionFailed
	}
	out.failure = registry.Fail(
		code,
		about(f.want.Ref, e.Message),
		cmp.Or(e.Hint, hints[e.Reason]),
	)
	return out
}

// about puts what is fetched before a message, unless that begins with it.
func about(ref modelref.Ref, message string) string {
	what := egress.What(ref)
	if rest, found := strings.CutPrefix(message, ref.String()+" "); found {
		return what + " " + rest
	}
	return what + ": " + message
}

// redirected remembers a host that files come from.
func (o *Obtainer) redirected(host string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) < mostHosts {
		o.known[strings.ToLower(host)] = true
	}
}

// mostFiles bounds the files of a model that are looked at.
const mostFiles = 4096

// contained returns why a model cannot be used: a link in it leads out of its artefact's directory.
// The manager reads the cache as root, and another user writes it: what it shows to an engine must
// be that user's own.
func contained(cacheDir string, ref modelref.Ref, path string) *registry.Failure {
	own, err := filepath.EvalSymlinks(filepath.Join(cacheDir, ref.Directory()))
	if err != nil {
		return unusable(ref, path, cause(err).Error())
	}
	if ref.Scheme == modelref.Image {
		return containedImage(own, ref, path)
	}
	files := 0
	err = filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if files++; files > mostFiles {
			return fmt.Errorf("it has more than %d files", mostFiles)
		}
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			return err
		}
		if real != own && !strings.HasPrefix(real, own+"/") {
			return fmt.Errorf("its file %s leads out of its directory, to %s", filepath.Base(p), real)
		}
		return nil
	})
	if err != nil {
		return unusable(ref, path, cause(err).Error())
	}
	return nil
}

// containedImage checks where an unpacked image is, and what is said of it. Links in it lead where
// they like: whatever follows them has the image as its root.
func containedImage(own string, ref modelref.Ref, path string) *registry.Failure {
	real, err := filepath.EvalSymlinks(image.Root(path))
	if err != nil {
		return unusable(ref, path, cause(err).Error())
	}
	if filepath.Dir(filepath.Dir(filepath.Dir(real))) != own {
		return unusable(ref, path, "it leads out of its directory, to "+real)
	}
	if _, err := image.Read(path); err != nil {
		return unusable(ref, path, cause(err).Error())
	}
	return nil
}

func unusable(ref modelref.Ref, path, why string) *registry.Failure {
	return registry.Fail(
		registry.CodeProvisionFailed,
		fmt.Sprintf("%s in the cache at %s cannot be used: %s", egress.What(ref), path, why),
		fmt.Sprintf("Remove it, and it is downloaded again: poolctl models rm '%s'.", ref.Directory()),
	)
}
