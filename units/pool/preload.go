package pool

// Preload is a pool that another program has prepared an engine for, as it describes it. It is kept
// as it was sent, so that the same request again is known to be the same.
type Preload struct {
	Engine  string   `json:"engine,omitempty"` // one of engine.Kinds; empty: by the name of the binary
	Binary  string   `json:"binary"`
	Flags   []string `json:"flags,omitempty"` // everything behind the binary
	Host    string   `json:"host,omitempty"`
	Port    int      `json:"port,omitempty"`    // 0: that of the flags, or one is chosen
	Model   string   `json:"model,omitempty"`   // a path; empty: that of the flags
	Version string   `json:"version,omitempty"` // of the engine; used where it does not print one
	Devices []string `json:"devices,omitempty"`
}

// SourcePreload is the Source of a pool that was preloaded.
const SourcePreload = "preload"

// Preloaded reports whether another program asked for the pool, and not a file.
func (p Pool) Preloaded() bool { return p.Source == SourcePreload }
