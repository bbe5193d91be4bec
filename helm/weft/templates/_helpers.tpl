{{- define "weft.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "weft.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "weft.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "weft.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* A DaemonSet's selector cannot be changed later: nothing in it that an upgrade changes. */}}
{{- define "weft.selectorLabels" -}}
app.kubernetes.io/name: {{ include "weft.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "weft.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{ include "weft.selectorLabels" . }}
app.kubernetes.io/component: agent
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Cluster-wide objects of two releases must not be one. */}}
{{- define "weft.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "weft.fullname" .) -}}
{{- end -}}

{{- define "weft.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "weft.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "weft.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The arguments of weftd: each key of .Values.weftd is the flag of that name. Numbers come as floating
point, and 1048576 must not become 1.048576e+06.
*/}}
{{- define "weft.args" -}}
{{- range $key, $value := omit .Values.weftd "config" "uninstall" }}
{{- $flag := printf "--%s" (kebabcase $key) }}
{{- if kindIs "bool" $value }}
{{- if $value }}
- {{ $flag }}
{{- end }}
{{- else if kindIs "slice" $value }}
{{- range $value }}
- {{ printf "%s=%v" $flag . | quote }}
{{- end }}
{{- else if kindIs "string" $value }}
{{- if $value }}
- {{ printf "%s=%s" $flag $value | quote }}
{{- end }}
{{- else if not (kindIs "invalid" $value) }}
- {{ printf "%s=%d" $flag (int64 $value) | quote }}
{{- end }}
{{- end }}
{{- if .Values.weftd.config }}
- --config=/etc/weft/config/config.yaml
{{- end }}
{{- range .Values.extraArgs }}
- {{ quote . }}
{{- end }}
{{- end -}}

{{/* "true" where a source is this cluster by the pod's own service account. */}}
{{- define "weft.inCluster" -}}
{{- if has "kubernetes:" .Values.weftd.source -}}true{{- end -}}
{{- end -}}

{{- define "weft.metricsPort" -}}
{{- regexFind "[0-9]+$" .Values.weftd.metrics -}}
{{- end -}}

{{/* Where the kubelet, on the same network, reaches the address that weftd listens on. */}}
{{- define "weft.metricsHost" -}}
{{- $address := regexReplaceAll ":[0-9]+$" .Values.weftd.metrics "" | trimPrefix "[" | trimSuffix "]" -}}
{{- if eq $address "0.0.0.0" -}}127.0.0.1
{{- else if eq $address "::" -}}::1
{{- else -}}{{ $address }}
{{- end -}}
{{- end -}}
