from urllib import request
import json
# Replace with your service endpoint and token.
# Find them on the Shared Gateway - Internet Endpoint tab of the Call Info page.
service_url = '<service_url>'
token = '<token>'
# For a scenario-based single-model deployment, the model name is 'model'.
# For other cases, see the path format table above.
model_name = '<model>'
url = '{}/v1/models/{}:predict'.format(service_url, model_name)
# Build the request.
req = request.Request(url, method='POST')
req.add_header('authorization', token)
data = {
'signature_name': 'serving_default',
'instances': [[[[1.0]] * 28] * 28]
}
# Send the request and print the response.
response = request.urlopen(req, data=json.dumps(data).encode('utf-8')).read()
print(json.loads(response))
