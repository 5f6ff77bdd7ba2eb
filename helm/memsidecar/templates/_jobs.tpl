{{- define "memsidecar.requireAppSecret" -}}
{{- if not .Values.database.app.existingSecret -}}
{{- fail "database.app.existingSecret is needed: name a Secret whose key database.app.key holds the URL of the app role" -}}
{{- end -}}
{{- end -}}

{{- define "memsidecar.requireOwnerSecret" -}}
{{- if not .Values.database.owner.existingSecret -}}
{{- fail "database.owner.existingSecret is needed for migration and maintenance: name a Secret with the URL of the owner role, or set migration.enabled and maintenance.enabled to false and run 'memsidecar migrate' and 'memsidecar maintain' yourself" -}}
{{- end -}}
{{- end -}}

{{/* Pod of a Job that acts as the owner. Takes a dict: root, component, args, resources. */}}
{{- define "memsidecar.ownerPod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "memsidecar.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  containers:
    - name: {{ .component }}
      image: {{ include "memsidecar.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        - name: MEMSIDECAR_OWNER_DATABASE_URL
          {{- include "memsidecar.urlFromSecret" $root.Values.database.owner | nindent 10 }}
        - name: MEMSIDECAR_LOG_FORMAT
          value: json
        {{- range .eraser }}
        - name: MEMSIDECAR_ERASER_DATABASE_URL
          {{- include "memsidecar.urlFromSecret" . | nindent 10 }}
        {{- end }}
        {{- range .app }}
        - name: DATABASE_URL
          {{- include "memsidecar.urlFromSecret" . | nindent 10 }}
        {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- toYaml $root.Values.containerSecurityContext | nindent 8 }}
      volumeMounts:
        - name: memsidecar-tmp
          mountPath: /tmp
        {{- if $root.Values.database.caSecret }}
        - name: memsidecar-database-ca
          mountPath: /etc/memsidecar/database-ca
          readOnly: true
        {{- end }}
  volumes:
    - name: memsidecar-tmp
      emptyDir:
        sizeLimit: 256Mi
    {{- include "memsidecar.databaseAuthorityVolume" $root | nindent 4 }}
{{- end -}}
