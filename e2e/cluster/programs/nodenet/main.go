// The pod network of the test cluster, one process per node. It does two
// things, and goes over them every few seconds:
//
//   - it tells the container runtime the node's own range of pod addresses, by
//     writing a CNI configuration (plugins ptp, host-local, portmap);
//   - it keeps a route to the range of every other node, through that node's
//     address. All nodes are on one Ethernet segment, so no tunnel is needed.
//
// Not here: network policies. Nothing enforces them.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	configFolder = "/etc/cni/net.d"
	configName   = "10-nodenet.conflist"
	interval     = 3 * time.Second
)

// Pods leave the cluster under their node's address (ipMasq).
const configFormat = `{
  "cniVersion": "0.3.1",
  "name": "nodenet",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/nodenet",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": "%s"}]]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

func main() {
	self := os.Getenv("NODE_NAME")
	if self == "" {
		log.Fatal("nodenet: NODE_NAME must hold the name of this node")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal("nodenet: ", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal("nodenet: ", err)
	}
	for ; ; time.Sleep(interval) {
		// From the API server's memory, which is cheap for it and recent enough here.
		nodes, err := client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			log.Print("nodenet: cannot list the nodes, trying again: ", err)
			continue
		}
		for i := range nodes.Items {
			if err := connect(&nodes.Items[i], self); err != nil {
				log.Printf("nodenet: node %s, trying again: %v", nodes.Items[i].Name, err)
			}
		}
	}
}

func connect(node *corev1.Node, self string) error {
	switch {
	case node.Spec.PodCIDR == "": // it has just joined
		return nil
	case node.Name == self:
		return writeConfig(node.Spec.PodCIDR)
	default:
		return routeTo(node)
	}
}

// The runtime may read at any time, so the file appears whole.
func writeConfig(podRange string) error {
	path, text := filepath.Join(configFolder, configName), fmt.Sprintf(configFormat, podRange)
	if present, err := os.ReadFile(path); err == nil && string(present) == text {
		return nil
	}
	partial := filepath.Join(configFolder, ".nodenet.partial")
	if err := os.WriteFile(partial, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

func routeTo(node *corev1.Node) error {
	_, podRange, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil {
		return err
	}
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		if gateway := net.ParseIP(address.Address).To4(); gateway != nil {
			return netlink.RouteReplace(&netlink.Route{Dst: podRange, Gw: gateway})
		}
	}
	return fmt.Errorf("it has no internal IPv4 address")
}
