package fetch

import (
	"errors"
	"strings"
)

// ParseStoreKeys reads the keys of an object store in the form of ~/.aws/credentials: those of the
// profile "default", or those before any profile. Other profiles and other lines are ignored.
func ParseStoreKeys(text string) (k StoreKeys, err error) {
	profile := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			profile = strings.TrimSpace(strings.Trim(line, "[]"))
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if profile != "" && profile != "default" {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "aws_access_key_id":
			k.Access = value
		case "aws_secret_access_key":
			k.Secret = value
		case "aws_session_token":
			k.Session = value
		}
	}
	if k.Access == "" || k.Secret == "" {
		return StoreKeys{}, errors.New("it has no aws_access_key_id and aws_secret_access_key in the profile default")
	}
	return k, nil
}
