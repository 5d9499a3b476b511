// weir-reopen-log asks the container runtime to reopen a container's log file: the second half of what the kubelet
// does when it rotates one. Built inside the Kubernetes tree, whose CRI client it uses.
//
//	weir-reopen-log SOCKET CONTAINER-ID
package main

import (
	"fmt"
	"os"
	"time"

	"k8s.io/kubernetes/pkg/kubelet/cri/remote"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: weir-reopen-log SOCKET CONTAINER-ID")
		os.Exit(2)
	}
	runtime, err := remote.NewRemoteRuntimeService(os.Args[1], 10*time.Second)
	if err == nil {
		err = runtime.ReopenContainerLog(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "weir-reopen-log:", err)
		os.Exit(1)
	}
}
