package catalogue

// Field is an attribute of log lines.
type Field struct {
	Name   string
	OfPool bool // every line about a pool has it, where it is known
	Text   string
}

// Fields are the attributes that programs may read. Others may come and go.
func Fields() []Field {
	return []Field{
		{"pool_id", true, "the pool"},
		{"replica_id", true, "`r0`, `r1` and so on, of a line about one engine"},
		{"engine", true, "the kind of engine, as in a pool file"},
		{"engine_version", true, "as the engine reports it"},
		{"device_mask", true, "the devices, joined by commas"},
		{"model_id", true, "the reference of the model; of a download, too"},
		{"restart_count", true, "restarts after failed runs"},
		{"backoff_ms", true, "the delay before the next start"},
		{"last_error", true, "a stable code, a colon and a sentence"},
		{"hint", false, "what to do about `last_error`"},
		{"correlation_id", false, "of the request that caused the line; of a pool, of that for which a drain, reload or preload is in progress"},
		{"human", false, "the sentence; `MESSAGE=` in the journal"},
		{Key, false, "the id of a message, below"},
		{"identity", false, "the caller: `uid:N`, `localhost`, or `token:` and six digits of its SHA-256"},
		{"token_name", false, "the name of the caller's token"},
		{"operation", false, "what a caller asked for: `drain`, `reload` and so on"},
		{"status", false, "of the answer to a request"},
		{"state", false, "of the pool"},
		{"reason", false, "one of a few words"},
		{"device", false, "the UUID of a GPU"},
		{"health", false, "of a GPU"},
		{"lines", false, "the most informative of an engine's last log lines, with secrets hidden"},
		{"uptime_ms", false, "how long the engine ran"},
		{"count", false, "how often something happened, or how many lines of this kind were left out"},
		{"moved_to", false, "where a damaged file was moved to"},
		{"retry_in_ms", false, "when something is tried again by itself"},
	}
}
