package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// secretDir is where secrets are that root alone may read. PID 1 passes each file in it as a
// credential (LoadCredential=fleet:… in the unit).
const secretDir = "/etc/pool-managerd/fleet"

// secretPath is where this program reads a file: its credential, where it is one.
func secretPath(path string) string {
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	if rest, is := strings.CutPrefix(path, secretDir+"/"); is && credentials != "" {
		return filepath.Join(credentials, "fleet_"+strings.ReplaceAll(rest, "/", "_"))
	}
	return path
}

func readSecret(key, path string) ([]byte, error) {
	content, err := os.ReadFile(secretPath(path))
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%s: could not read %s: move it to %s, which PID 1 reads for this program, or let "+
			"every user read it", key, path, secretDir)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s: %s does not exist; after a change in %s: systemctl restart pool-fleet", key, path,
			secretDir)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return content, nil
}

// readLine reads a file with one token or password; without a path, there is none.
func readLine(key, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	content, err := readSecret(key, path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%s: %s is not one line of printable characters without blanks", key, path)
	}
	return token, nil
}

// trustOf is how servers are recognised: by the authorities in a file, or those of the host.
func trustOf(key, caFile string) (*tls.Config, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return trust, nil
	}
	content, err := readSecret(key, caFile)
	if err != nil {
		return nil, err
	}
	trust.RootCAs = x509.NewCertPool()
	if !trust.RootCAs.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s: %s has no certificate in PEM", key, caFile)
	}
	return trust, nil
}

// readCertificate reads what this host shows as a client of etcd; without paths, nothing.
func readCertificate(certFile, keyFile string) ([]tls.Certificate, error) {
	if certFile == "" {
		return nil, nil
	}
	cert, err := readSecret("[etcd] cert_file", certFile)
	if err != nil {
		return nil, err
	}
	key, err := readSecret("[etcd] key_file", keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil { // has no part of the key
		return nil, fmt.Errorf("[etcd] cert_file, key_file: %s and %s are no certificate and its key: %w", certFile,
			keyFile, err)
	}
	return []tls.Certificate{pair}, nil
}
