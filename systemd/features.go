package systemd

import (
	"encoding/xml"
	"fmt"
)

// Features is what this PID 1 supports, by the properties of its service units: distributions
// backport features to older versions (RHEL 9's 252 has RestartMode), so a version number proves
// nothing.
type Features struct {
	// Version is for logs: the manual forbids parsing it (org.freedesktop.systemd1(5)).
	Version string
	// Properties maps each property of a service unit to its D-Bus signature.
	Properties map[string]string

	interfaces map[string]string // of each property
}

// Has reports whether service units have the property, "RestartSteps" for example.
func (f Features) Has(property string) bool {
	_, ok := f.Properties[property]
	return ok
}

// parseFeatures reads the introspection document of a service unit's object.
func parseFeatures(document string) (Features, error) {
	var node struct {
		Interfaces []struct {
			Name       string `xml:"name,attr"`
			Properties []struct {
				Name string `xml:"name,attr"`
				Type string `xml:"type,attr"`
			} `xml:"property"`
		} `xml:"interface"`
	}
	if err := xml.Unmarshal([]byte(document), &node); err != nil {
		return Features{}, fmt.Errorf("introspection of a service unit: %w", err)
	}
	f := Features{Properties: make(map[string]string), interfaces: make(map[string]string)}
	for _, i := range node.Interfaces {
		if i.Name != unitInterface && i.Name != serviceInterface {
			continue
		}
		for _, p := range i.Properties {
			f.Properties[p.Name] = p.Type
			f.interfaces[p.Name] = i.Name
		}
	}
	if len(f.Properties) == 0 {
		return Features{}, fmt.Errorf("introspection of a service unit names no property of %s", serviceInterface)
	}
	return f, nil
}
