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
