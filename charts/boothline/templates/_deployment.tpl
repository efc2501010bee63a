{{/* The deployment settings of this release (boothline/launch/cluster/deployment.py has the model). */}}
{{- define "boothline.deployment" -}}
{{- $role := .Values.s3.roles.pipeline -}}
kfp:
  host: {{ .Values.pipelines.host | quote }}
  {{- if and (not .Values.pipelines.multiUser) (ne .Release.Namespace .Values.pipelines.systemNamespace) }}
  {{- fail (printf "Single-user Kubeflow Pipelines starts the pods of a run in its own namespace, where they find no Secret, ConfigMap or account of %s: install the chart in %s, or set pipelines.multiUser=true." .Release.Namespace .Values.pipelines.systemNamespace) }}
  {{- end }}
  namespace: {{ .Release.Namespace | quote }}
  multi_user: {{ .Values.pipelines.multiUser }}
  experiment: {{ .Values.pipelines.experiment | quote }}
  service_account: {{ .Values.pipelines.serviceAccount | quote }}
images:
  tools: {{ include "boothline.image" (list . "tools") | quote }}
  torch: {{ include "boothline.image" (list . "torch") | quote }}
image_pull_policy: {{ .Values.images.pullPolicy }}
image_pull_secrets: {{ toJson .Values.images.pullSecrets }}
settings:
  s3_endpoint: {{ include "boothline.s3Endpoint" . | quote }}
  s3_region: {{ .Values.s3.region | quote }}
  bucket: {{ .Values.s3.bucket | quote }}
  prefix: {{ .Values.s3.prefix | quote }}
  mlflow_uri: {{ include "boothline.mlflowUri" . | quote }}
secrets:
  - name: {{ include "boothline.roleSecret" (list . "pipeline") }}
    environment:
      {{ $role.accessKeyKey }}: BOOTHLINE_S3_ACCESS_KEY
      {{ $role.secretKeyKey }}: BOOTHLINE_S3_SECRET_KEY
{{- with .Values.mlflow.client }}
{{- if .existingSecret }}
  - name: {{ .existingSecret }}
    environment:
      {{ .usernameKey }}: MLFLOW_TRACKING_USERNAME
      {{ .passwordKey }}: MLFLOW_TRACKING_PASSWORD
{{- end }}
{{- end }}
{{- with .Values.s3.caBundle }}
{{- if .existingConfigMap }}
ca_bundle:
  config_map: {{ .existingConfigMap }}
  key: {{ .key }}
{{- end }}
{{- end }}
{{- with .Values.signing }}
{{- if .private.existingSecret }}
signing:
  secret: {{ .private.existingSecret }}
  key: {{ .private.key }}
  password_key: {{ .private.passwordKey | quote }}
{{- end }}
{{- if .public.existingConfigMap }}
verification:
  config_map: {{ .public.existingConfigMap }}
  key: {{ .public.key }}
{{- end }}
{{- end }}
labels:
  {{- include "boothline.selector" . | nindent 2 }}
  app.kubernetes.io/component: step
{{- with include "boothline.observability" . }}
defaults:
  environment:
    {{- . | nindent 4 }}
{{- end }}
{{- if and (include "boothline.hasTrainer" .) (gt (int .Values.trainer.numNodes) 1) }}
trainer:
  namespace: {{ .Release.Namespace }}
  runtime: {{ include "boothline.fullname" . }}-ddp
  num_nodes: {{ .Values.trainer.numNodes }}
  processes_per_node: {{ .Values.trainer.processesPerNode }}
  queue: {{ .Values.trainer.queue | quote }}
  deadline_seconds: {{ .Values.trainer.deadlineSeconds }}
{{- end }}
{{- end -}}
