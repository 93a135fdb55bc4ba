from django.test import TestCase

from kano_konnect.models import Sum


class Sums(TestCase):
    def test_a_sum_is_added_kept_and_counted(self):
        answer = self.client.post("/sums", {"x": "19", "y": "23"})
        self.assertEqual(answer.json()["sum"], 42)
        self.assertEqual(Sum.objects.get().result, 42)
        self.assertEqual(self.client.get("/").json()["sums"], 1)

    def test_only_who_posts_adds(self):
        self.assertEqual(self.client.get("/sums").status_code, 405)
