package render

import (
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/secret"
)

// credentialPath is where an engine finds its key; "": it has none. PID 1 shows the directory to
// the unit alone, also where the rest of /run is empty.
func credentialPath(in Input) string {
	if in.Pool.APIKeyFile == "" {
		return ""
	}
	return "/run/credentials/" + replica(in).Unit() + "/" + secret.Credential
}

// credentialLines have PID 1 read the key at each start.
func credentialLines(in Input) []Line {
	if in.Pool.APIKeyFile == "" {
		return nil
	}
	return []Line{{Section: sectionService, Key: "LoadCredential",
		Text: escapeSpecifiers(secret.Credential + ":" + in.Pool.APIKeyFile),
		Why: "the engine's key, readable by its user and the gate: neither an argument nor a variable of the unit, " +
			"which every user can read",
		Property: systemd.Property{Name: "LoadCredential",
			Value: []systemd.PathString{{First: secret.Credential, Second: in.Pool.APIKeyFile}}}}}
}
