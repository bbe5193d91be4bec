// Decodes rendered manifests as the API server does with fieldValidation=Strict: an unknown or a
// repeated field is an error, names are compared with case. Prints one line a document.
//
// Usage: strict < rendered.yaml
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// decoder knows the kinds that the chart may contain, and no others.
func decoder() (runtime.Decoder, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, core.AddToScheme, networking.AddToScheme, policy.AddToScheme,
		rbac.AddToScheme, monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), nil
}

func describe(document []byte, decoder runtime.Decoder) (string, error) {
	object, kind, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return "", err
	}
	named, ok := object.(meta.Object)
	if !ok || named.GetName() == "" {
		return "", fmt.Errorf("%s without a name", kind.Kind)
	}
	return fmt.Sprintf("%s/%s %s", kind.GroupVersion(), kind.Kind, named.GetName()), nil
}

// blank is true of a document with nothing but comments: helm writes them for empty templates.
func blank(document []byte) bool {
	for _, line := range bytes.Split(document, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

func run(input io.Reader) error {
	decoder, err := decoder()
	if err != nil {
		return err
	}
	reader := yaml.NewYAMLReader(bufio.NewReader(input))
	for number := 1; ; number++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if blank(document) {
			continue
		}
		line, err := describe(document, decoder)
		if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		fmt.Println(line)
	}
}

func main() {
	if err := run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "strict:", err)
		os.Exit(1)
	}
}
