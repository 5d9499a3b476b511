{{- define "weir.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "weir.selectorLabels" -}}
app.kubernetes.io/name: {{ include "weir.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "weir.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "weir.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "weir.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The namespaces of namespaced mode, the release's own among them: a,b,c. Empty in cluster mode. */}}
{{- define "weir.namespaces" -}}
{{- if .Values.namespaces -}}
{{- join "," (uniq (append .Values.namespaces .Release.Namespace)) -}}
{{- end -}}
{{- end -}}

{{- define "weir.scheme" -}}
{{- if .Values.tls.secretName }}HTTPS{{ else }}HTTP{{ end -}}
{{- end -}}

{{/* What Weir does in every namespace that it watches. */}}
{{- define "weir.rules" -}}
# Find pods and read their logs.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# Tell what happens to pods (podSignals).
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, watch]
# Tell people what happened.
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Weir's own objects. Their specs belong to people: patch is for annotations and for commands of clients.
- apiGroups: [weir.dev]
  resources: [accesskeys, alertreceivers, streamsubscriptions]
  verbs: [get, list, patch, watch]
- apiGroups: [weir.dev]
  resources: [accesskeys/status, alertreceivers/status, streamsubscriptions/status]
  verbs: [patch, update]
# Own the Secrets of keys, also where blockOwnerDeletion is enforced.
- apiGroups: [weir.dev]
  resources: [accesskeys/finalizers, alertreceivers/finalizers, streamsubscriptions/finalizers]
  verbs: [update]
# A key's Secret lives beside its AccessKey. RBAC cannot select Secrets by label.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, delete, get, list, patch, watch]
{{- end -}}

{{/* How nodes are scraped: Kubelet or Proxy; empty where they are not. */}}
{{- define "weir.scrape" -}}
{{- $scrape := .Values.metrics.scrape -}}
{{- if eq $scrape "Auto" -}}
{{- if not .Values.namespaces }}Kubelet{{ end -}}
{{- else if ne $scrape "Off" -}}
{{- $scrape -}}
{{- end -}}
{{- end -}}

{{/* What Weir needs of nodes to scrape them. */}}
{{- define "weir.nodeRules" -}}
# Find the nodes, and read their metrics.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [{{ if eq (include "weir.scrape" .) "Proxy" }}nodes/proxy{{ else }}nodes/metrics{{ end }}]
  verbs: [get]
{{- end -}}
