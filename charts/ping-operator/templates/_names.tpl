{{- define "ping-operator.name" -}}
{{- if contains "ping-operator" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-ping-operator" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ping-operator.account" -}}
{{- .Values.serviceAccount.name | default (include "ping-operator.name" .) }}
{{- end }}

{{- define "ping-operator.selector" -}}
app.kubernetes.io/name: ping-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ping-operator.labels" -}}
{{ include "ping-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pingpipeline
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The namespaces to watch, as JSON; none if the operator is cluster-wide. */ -}}
{{- define "ping-operator.watched" -}}
{{- if .Values.clusterWide }}
{{- if or .Values.watchNamespaces .Values.referenceNamespaces }}
{{- fail "set either clusterWide, or watchNamespaces and referenceNamespaces, not both" }}
{{- end }}
{{- list | toJson }}
{{- else }}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | toJson }}
{{- end }}
{{- end }}
