{{/* What the restricted Pod Security Standard asks of a pod. */}}
{{- define "boothline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What it asks of a container, and a read-only root file system. */}}
{{- define "boothline.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "boothline.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "boothline.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Settings and the store credentials of a role as environment; call with (list . "pipeline"). */}}
{{- define "boothline.environment" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $keys := index $root.Values.s3.roles $role -}}
- name: BOOTHLINE_S3_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "boothline.roleSecret" (list $root $role) }}
      key: {{ $keys.accessKeyKey }}
- name: BOOTHLINE_S3_SECRET_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "boothline.roleSecret" (list $root $role) }}
      key: {{ $keys.secretKeyKey }}
- name: BOOTHLINE_HOME
  value: /scratch/home
- name: HOME
  value: /scratch
- name: TMPDIR
  value: /scratch
{{- with $root.Values.mlflow.client }}
{{- if .existingSecret }}
- name: MLFLOW_TRACKING_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .usernameKey }}
- name: MLFLOW_TRACKING_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .passwordKey }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How a process logs, and where it sends traces and metrics; empty by default. */}}
{{- define "boothline.observability" -}}
{{- if ne .Values.monitoring.logFormat "text" }}
BOOTHLINE_LOG_FORMAT: {{ .Values.monitoring.logFormat | quote }}
{{- end }}
{{- with .Values.monitoring.otlp.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "boothline.caMount" -}}
{{- if .Values.s3.caBundle.existingConfigMap }}
- name: ca-bundle
  mountPath: /etc/boothline/ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "boothline.caVolume" -}}
{{- with .Values.s3.caBundle }}
{{- if .existingConfigMap }}
- name: ca-bundle
  configMap:
    name: {{ .existingConfigMap }}
    items:
      - key: {{ .key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end -}}
