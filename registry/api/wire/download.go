package wire

import "github.com/pool-managerd/pool-managerd/registry"

// PullRequest asks for a model, or to end what was asked for.
type PullRequest struct {
	Model  string `json:"model"`
	Digest string `json:"model_digest,omitempty"`
	Cancel bool   `json:"cancel,omitempty"`
}

// Download is a model that is downloaded without a pool that waits for it.
type Download struct {
	Model     string   `json:"model"`
	State     string   `json:"state"`
	Progress  *Staging `json:"progress"`
	Path      *string  `json:"path"`
	Pools     []string `json:"pools"` // that will change to it
	By        *string  `json:"by"`    // who asked for it
	LastError *string  `json:"last_error"`
	Hint      *string  `json:"hint"`
	ChangedMS *int64   `json:"changed_ms"`
}

// DownloadList is the answer of GET /v1/downloads.
type DownloadList struct {
	Downloads []Download `json:"downloads"`
}

// DownloadOf converts a download.
func DownloadOf(d registry.Download) Download {
	text, hint := failure(d.Failure)
	out := Download{Model: d.Model, State: string(d.State), Path: optional(d.Path), Pools: list(d.Pools),
		By: optional(d.By), LastError: text, Hint: hint, ChangedMS: moment(d.Changed)}
	if d.Progress != nil {
		out.Progress = StagingOf(*d.Progress)
	}
	return out
}

// DownloadsOf converts downloads.
func DownloadsOf(all []registry.Download) DownloadList {
	out := DownloadList{Downloads: make([]Download, 0, len(all))}
	for _, d := range all {
		out.Downloads = append(out.Downloads, DownloadOf(d))
	}
	return out
}
