{{/*
The container of the server, the same in the Deployment and as a sidecar.
Takes a dict: root (the chart's context) and listen (the address).
*/}}
{{- define "memsidecar.container" -}}
{{- $root := .root -}}
{{- with $root -}}
name: memsidecar
image: {{ include "memsidecar.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
ports:
  {{- if not (hasPrefix "unix:" $.listen) }}
  - name: grpc
    containerPort: {{ .Values.server.port }}
  {{- end }}
  - name: admin
    containerPort: {{ .Values.admin.port }}
env:
  - name: MEMSIDECAR_LISTEN
    value: {{ $.listen | quote }}
  - name: MEMSIDECAR_ADMIN_LISTEN
    value: {{ printf "0.0.0.0:%v" .Values.admin.port | quote }}
  - name: MEMSIDECAR_AUTHENTICATION
    value: {{ .Values.server.authentication | quote }}
  - name: MEMSIDECAR_MODEL_PRECISION
    value: {{ .Values.server.modelPrecision | quote }}
  - name: MEMSIDECAR_EMBEDDING_THREADS
    value: {{ .Values.server.embeddingThreads | quote }}
  - name: MEMSIDECAR_POOL_SIZE
    value: {{ .Values.database.poolSize | quote }}
  - name: MEMSIDECAR_STATEMENT_CACHE_SIZE
    value: {{ .Values.database.statementCacheSize | quote }}
  - name: MEMSIDECAR_GRACE_SECONDS
    value: {{ .Values.server.graceSeconds | quote }}
  - name: MEMSIDECAR_LOG_FORMAT
    value: json
  - name: MEMSIDECAR_LOG_LEVEL
    value: {{ .Values.server.logLevel | quote }}
  - name: DATABASE_URL
    {{- include "memsidecar.urlFromSecret" .Values.database.app | nindent 4 }}
  {{- if .Values.database.eraser.existingSecret }}
  - name: MEMSIDECAR_ERASER_DATABASE_URL
    {{- include "memsidecar.urlFromSecret" .Values.database.eraser | nindent 4 }}
  {{- end }}
  {{- if .Values.tls.existingSecret }}
  - name: MEMSIDECAR_TLS_CERTIFICATE
    value: /etc/memsidecar/tls/tls.crt
  - name: MEMSIDECAR_TLS_KEY
    value: /etc/memsidecar/tls/tls.key
  {{- if .Values.tls.clientAuthorityKey }}
  - name: MEMSIDECAR_TLS_CLIENT_AUTHORITY
    value: {{ printf "/etc/memsidecar/tls/%s" .Values.tls.clientAuthorityKey | quote }}
  {{- end }}
  {{- end }}
  {{- with .Values.server.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
# The admin port opens when the model is loaded and the database was found fit to serve from.
startupProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
# Never asks the database: a database that is away must not restart its clients.
livenessProbe:
  httpGet:
    path: /livez
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
volumeMounts:
  - name: memsidecar-tmp
    mountPath: /tmp
  {{- if hasPrefix "unix:" $.listen }}
  - name: memsidecar-socket
    mountPath: /run/memsidecar
  {{- end }}
  {{- include "memsidecar.sharedVolumeMounts" . | nindent 2 }}
  {{- with .Values.server.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "memsidecar.urlFromSecret" -}}
valueFrom:
  secretKeyRef:
    name: {{ .existingSecret }}
    key: {{ .key }}
{{- end -}}

{{- define "memsidecar.sharedVolumeMounts" -}}
{{- if .Values.tls.existingSecret }}
- name: memsidecar-tls
  mountPath: /etc/memsidecar/tls
  readOnly: true
{{- end }}
{{- if .Values.database.caSecret }}
- name: memsidecar-database-ca
  mountPath: /etc/memsidecar/database-ca
  readOnly: true
{{- end }}
{{- end -}}

{{/* Volumes the container needs. Takes the same dict. */}}
{{- define "memsidecar.containerVolumes" -}}
{{- $root := .root -}}
{{- with $root -}}
- name: memsidecar-tmp
  emptyDir:
    sizeLimit: 256Mi
{{- if hasPrefix "unix:" $.listen }}
- name: memsidecar-socket
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: memsidecar-tls
  secret:
    secretName: {{ .Values.tls.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- include "memsidecar.databaseAuthorityVolume" . }}
{{- with .Values.server.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "memsidecar.databaseAuthorityVolume" -}}
{{- if .Values.database.caSecret }}
- name: memsidecar-database-ca
  secret:
    secretName: {{ .Values.database.caSecret }}
    defaultMode: 0440
{{- end }}
{{- end -}}
