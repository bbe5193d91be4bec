{{- define "weft.appArmorAnnotation" -}}
{{- if eq .Values.securityContext.appArmorProfile "Unconfined" -}}unconfined{{- else -}}runtime/default{{- end -}}
{{- end -}}

{{/* What weftd needs to run, be it to serve or to uninstall. */}}
{{- define "weft.container" -}}
env:
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
securityContext:
  # Root of the node, but not privileged: no devices, no capability beyond these.
  privileged: false
  runAsUser: 0
  runAsGroup: 0
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    add:
      # bpf(): loading programs, making and pinning maps.
      - BPF
      # The programs are of the network's types, and are attached to a cgroup: both ask for it.
      - NET_ADMIN
      # Programs that read kernel structures and do pointer arithmetic pass the verifier with it only.
      - PERFMON
      # setns() into a pod's network namespace, for its cookie; and opening programs by id: those in
      # force after a restart, and others' on the same cgroup. The widest one here: no smaller one
      # allows either. Without it weftctl workload list shows no cookies; pods are enrolled all the
      # same, by their cgroup.
      - SYS_ADMIN
      # Opening /proc/PID/ns/net of a pod's process. Without it the same is lost.
      - SYS_PTRACE
      # open_by_handle_at(): the cgroup that a program hangs on, whose id is all the kernel tells.
      # Without it weftctl in the pod does not know which processes are served.
      - DAC_READ_SEARCH
      # weft-proxy is started as an unprivileged user that can become no other: setgroups and setgid,
      - SETGID
      # setuid,
      - SETUID
      # dropping the bounding set;
      - SETPCAP
      # and ended, which is a signal to another user's process.
      - KILL
      # Kernels before 5.11 charge maps to RLIMIT_MEMLOCK, which weftd then raises.
      - SYS_RESOURCE
  seccompProfile:
    type: {{ .Values.securityContext.seccompProfile }}
  {{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}
  appArmorProfile:
    type: {{ .Values.securityContext.appArmorProfile }}
  {{- end }}
  {{- with .Values.securityContext.seLinuxType }}
  seLinuxOptions:
    type: {{ . }}
  {{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  # The host's cgroup2: the container's own /sys/fs/cgroup shows nothing above its own cgroup.
  # Read-only is enough for programs: attaching one needs a directory opened for reading, and rights to
  # BPF. weft-proxy runs in a cgroup of its own below the pods', which must be made.
  - name: cgroup
    mountPath: /host/sys/fs/cgroup
    readOnly: {{ eq .Values.weftd.proxy "off" }}
  # Pins live on the host's bpffs, so that they outlive the pod and the next one finds them.
  # HostToContainer: a bpffs that the host mounts later shows up. Bidirectional would let the pod
  # mount it for the host; weftd does not, and the API allows that to privileged containers only.
  - name: bpffs
    mountPath: {{ .Values.host.bpffs }}
    mountPropagation: HostToContainer
  # Of the host, because old and new pod meet there: admin socket, lock, take-over.
  - name: run
    mountPath: {{ .Values.weftd.runDir }}
  # Of the host: state that outlives pod and reboot.
  - name: state
    mountPath: {{ .Values.weftd.stateDir }}
  {{- if .Values.weftd.config }}
  - name: config
    mountPath: /etc/weft/config
    readOnly: true
  {{- end }}
  {{- if or .Values.manifests.configMap .Values.manifests.hostPath }}
  - name: manifests
    mountPath: /etc/weft/mesh
    readOnly: true
  {{- end }}
  {{- if .Values.kubeconfigSecret }}
  - name: kubeconfig
    mountPath: /etc/weft/kubeconfig
    readOnly: true
  {{- end }}
{{- end -}}
