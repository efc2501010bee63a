{{/* The pod that serves a model; call with (list . "name of its container"). */}}
{{- define "boothline.servePod" -}}
{{- $root := index . 0 -}}
{{- $serve := $root.Values.serve -}}
serviceAccountName: {{ include "boothline.account" (list $root "server") }}
automountServiceAccountToken: false
enableServiceLinks: false
# Time to draw what waits.
terminationGracePeriodSeconds: 60
securityContext: {{ include "boothline.podSecurity" $root | nindent 2 }}
{{- include "boothline.pullSecrets" $root }}
{{- with include "boothline.scheduling" $serve }}
{{ . | trim }}
{{- end }}
containers:
  - name: {{ index . 1 }}
    image: {{ include "boothline.image" (list $root "torch") }}
    imagePullPolicy: {{ $root.Values.images.pullPolicy }}
    command:
      - boothline
      - --verbose
      - serve
      - {{ required "Set serve.model to the registered model that is served." $serve.model }}@{{ $serve.alias }}
      - --host=0.0.0.0
      - --port=8080
      - --queue={{ $serve.queue }}
      - --precision={{ $serve.precision }}
    envFrom:
      - configMapRef:
          name: {{ include "boothline.fullname" $root }}-settings
    env:
      {{- include "boothline.environment" (list $root "reader") | nindent 6 }}
      {{- if $root.Values.signing.public.existingConfigMap }}
      - name: BOOTHLINE_VERIFICATION_KEY
        value: /etc/boothline/verification/verification.pem
      {{- end }}
      {{- with $serve.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: 8080
        protocol: TCP
    startupProbe:
      httpGet: {path: /readyz, port: 8080}
      periodSeconds: 5
      failureThreshold: {{ div $serve.startupSeconds 5 }}
    readinessProbe:
      httpGet: {path: /readyz, port: 8080}
      timeoutSeconds: 5
    livenessProbe:
      httpGet: {path: /healthz, port: 8080}
      periodSeconds: 30
      timeoutSeconds: 10
      failureThreshold: 5
    securityContext: {{ include "boothline.containerSecurity" $root | nindent 6 }}
    resources: {{ toYaml $serve.resources | nindent 6 }}
    volumeMounts:
      - name: scratch
        mountPath: /scratch
      - name: temporary
        mountPath: /tmp
      {{- include "boothline.caMount" $root | nindent 6 }}
      {{- if $root.Values.signing.public.existingConfigMap }}
      - name: verification
        mountPath: /etc/boothline/verification
        readOnly: true
      {{- end }}
volumes:
  - name: scratch
    emptyDir:
      sizeLimit: {{ $serve.scratch }}
  - name: temporary
    emptyDir:
      sizeLimit: 1Gi
  {{- include "boothline.caVolume" $root | nindent 2 }}
  {{- with $root.Values.signing.public }}
  {{- if .existingConfigMap }}
  - name: verification
    configMap:
      name: {{ .existingConfigMap }}
      items:
        - key: {{ .key }}
          path: verification.pem
  {{- end }}
  {{- end }}
{{- end -}}
