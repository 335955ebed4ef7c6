package wire

// ModelList is the answer of GET /v1/models: what is in the cache of models.
type ModelList struct {
	Models []CachedModel `json:"models"`
}

// CachedModel is a model in the cache: all revisions and files of one repository, one file of a web
// server, or the images of a repository.
type CachedModel struct {
	Model     string   `json:"model"` // "hf:org/name", or the name of its directory
	Directory string   `json:"directory"`
	Bytes     int64    `json:"bytes"`         // of whole files
	Partial   int64    `json:"partial_bytes"` // on the disk, of files that are not whole
	Files     int      `json:"files"`
	Digests   []string `json:"digests"` // of files that are kept by their digest, and of images
	Pools     []string `json:"pools"`   // that serve it, or are asked to
	UsedMS    *int64   `json:"last_used_ms"`
}

// FleetModels is the answer of GET /v1/fleet/models: which host has which models in its cache.
type FleetModels struct {
	Prefix    string       `json:"prefix"`   // of the keys in etcd
	Revision  int64        `json:"revision"` // of etcd, up to which changes are in it
	Models    []FleetModel `json:"models"`
	Truncated bool         `json:"truncated"` // a host has more than it publishes, or the fleet than is kept
}

// FleetModel is a model in the cache of a host that is published.
type FleetModel struct {
	Node      string   `json:"node"` // host name
	MachineID string   `json:"machine_id"`
	Address   string   `json:"address"` // of the host
	Model     string   `json:"model"`
	Bytes     int64    `json:"bytes"` // of whole files
	Files     int      `json:"files"`
	Whole     bool     `json:"whole"` // no file of it is being downloaded, or was given up
	Digests   []string `json:"digests"`
}
