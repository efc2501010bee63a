{{- define "boothline.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "boothline.selector" -}}
app.kubernetes.io/part-of: boothline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of an object; call with (list . "component"). */}}
{{- define "boothline.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
{{ include "boothline.selector" $root }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image of ours; call with (list . "tools"). */}}
{{- define "boothline.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $name := printf "%s%s" (empty $root.Values.images.registry | ternary "" (printf "%s/" $root.Values.images.registry)) $image.repository -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $name $image.digest }}
{{- else -}}
{{ printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) }}
{{- end -}}
{{- end -}}

{{/* Somebody else's image. */}}
{{- define "boothline.foreignImage" -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository .tag }}
{{- end -}}
{{- end -}}

{{- define "boothline.account" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- default (printf "%s-%s" (include "boothline.fullname" $root) $role) (index $root.Values.serviceAccount (printf "%sName" $role)) -}}
{{- end -}}

{{- define "boothline.s3Endpoint" -}}
{{- if .Values.s3.bundled.enabled -}}
http://{{ include "boothline.fullname" . }}-s3.{{ .Release.Namespace }}.svc.cluster.local:8333
{{- else -}}
{{- required "Set s3.endpoint, or s3.bundled.enabled=true." .Values.s3.endpoint -}}
{{- end -}}
{{- end -}}

{{- define "boothline.mlflowUri" -}}
{{- if .Values.mlflow.bundled.enabled -}}
http://{{ include "boothline.fullname" . }}-mlflow.{{ .Release.Namespace }}.svc.cluster.local:5000
{{- else -}}
{{- .Values.mlflow.uri -}}
{{- end -}}
{{- end -}}

{{/* The Secret of a role, refused when it is not named; call with (list . "pipeline"). */}}
{{- define "boothline.roleSecret" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- required (printf "Set s3.roles.%s.existingSecret: the chart makes up no credentials." $role) (index $root.Values.s3.roles $role).existingSecret -}}
{{- end -}}

{{/* Not empty where the TrainingRuntime is installed: asked for, and known to the API server. */}}
{{- define "boothline.hasTrainer" -}}
{{- if and .Values.trainer.enabled (.Capabilities.APIVersions.Has "trainer.kubeflow.org/v1alpha1") -}}
true
{{- else if and .Values.trainer.enabled (gt (int .Values.trainer.numNodes) 1) -}}
{{- fail "trainer.numNodes is above 1, which needs Kubeflow Trainer: this cluster does not serve trainer.kubeflow.org/v1alpha1. Install it, or set trainer.numNodes=1. Outside a cluster, name it: helm template --api-versions trainer.kubeflow.org/v1alpha1." -}}
{{- end -}}
{{- end -}}
